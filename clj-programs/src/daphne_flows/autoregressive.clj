(ns daphne-flows.autoregressive
  "This namespace is the kind `autoregressive`: a mixture for each free column.

  Free column c of a block reads the free columns of the block's parents, those of its
  own block before c, and the block's observed columns, all scaled. With silu(a) =
  a s(a), s the logistic function, its own network is

      h_1 = silu(reads A_1 + b_1)      h_l = h_{l-1} + silu(h_{l-1} A_l + b_l)
      (logits, centres, raw) = h_L A + b       scales = log(1 + e^raw) + 0.001

  and its residual coordinate has this mixture; nuisances are standard normal. Tensors
  hold the columns sorted by how many numbers they read, then as in the state. Where
  several free columns read the same long data, a network of two such layers gives them
  a context of a few numbers, which they read in its place; its first units are given
  quadratic forms of the data beside."
  (:require [daphne-flows.dense :as dense]
            [daphne-flows.kind :as kind]
            [daphne-flows.mixture :as mixture]
            [daphne-flows.normalisation :as normalisation]
            [daphne-flows.quadratic-forms :as forms]
            [daphne-flows.state-columns :as columns]))

(set! *warn-on-reflection* true)

(def ^:private least-scale 1e-3)

(def ^:private most-contexts
  "Where there would be more of them there are none."
  4)

(defn- width-of [observed] (reduce + (map second observed)))

(defn- contexts
  "Observed columns for which contexts stand, the fewest first: those that are more
  than half as many as a context and that several free columns read."
  [{:keys [blocks config]}]
  (let [context (config "context")
        readers #(reduce + (map :free-size (filter (comp #{%} :observed) blocks)))
        shared (->> (distinct (map :observed blocks))
                    (filter #(and (> (* 2 (width-of %)) context) (> (readers %) 1)))
                    (sort-by width-of))]
    (when (and (pos? context) (<= (count shared) most-contexts))
      shared)))

(defn- free-reads
  "Per free column in state order, how many numbers it reads."
  [{:keys [blocks config] :as structure}]
  (let [is-long (set (contexts structure))]
    (for [{:keys [parents free-size observed]} blocks
          k (range free-size)]
      (reduce + (+ k (if (is-long observed) (config "context") (width-of observed)))
              (map #(:free-size (blocks %)) parents)))))

(defn- observed-reads
  "What stands in a row of numbers for observed columns: they, or their context."
  [{:keys [state-dim observed-dim config]} place observed]
  (let [context (config "context")
        start (+ state-dim observed-dim (* context (or place 0)))]
    (if place
      (range start (+ start context))
      (mapcat (fn [[first width]]
                (range (+ state-dim first) (+ state-dim first width)))
              observed))))

(defn- reads
  "Per free column in state order, what it reads: state columns, then observed ones,
  which stand behind the state, and contexts behind those."
  [{:keys [blocks] :as structure}]
  (let [place (zipmap (contexts structure) (range))]
    (for [{:keys [start parents free-size observed]} blocks
          k (range free-size)]
      (int-array (concat (columns/free-columns (map blocks parents))
                         (range start (+ start k))
                         (observed-reads structure (place observed) observed))))))

(defn- of-columns [{:strs [components layers hidden]}]
  {:prefix "conditioner." :layers layers :hidden hidden :outputs (* 3 components)
   :forms 0})

(defn- of-contexts [{:strs [context forms hidden]}]
  {:prefix "conditioner.contexts." :layers 2 :hidden (* 4 hidden) :outputs context
   :forms forms})

(defn- network-shapes
  "[name shape] of the tensors of so many networks that read so many numbers together."
  [{:keys [prefix layers hidden outputs forms]} num reads]
  (concat
   (for [[name shape] [["first" [reads hidden]]
                       ["first_bias" [num hidden]]
                       ["hidden" [(dec layers) num hidden hidden]]
                       ["hidden_bias" [(dec layers) num hidden]]
                       ["last" [num hidden outputs]]
                       ["last_bias" [num outputs]]]]
     [(str prefix name) shape])
   (forms/shapes prefix forms num reads hidden)))

(defn- shapes [{:keys [free-dim config] :as structure}]
  (let [found (contexts structure)]
    (concat
     (network-shapes (of-columns config) free-dim (reduce +' (free-reads structure)))
     (when (seq found)
       (network-shapes (of-contexts config) (count found)
                       (reduce +' (map width-of found)))))))

(defn- layers
  "[matrix start bias] of each layer of the network at a place among so many, whose
  reads begin at `start`."
  [tensors {:keys [prefix layers hidden outputs forms]} num place start]
  (let [numbers #(tensors (str prefix %))
        at (fn [layer] (+ (* layer num) place))]
    {:first [(numbers "first") (* hidden start)
             (dense/part (numbers "first_bias") place hidden)]
     :forms (forms/of-network tensors prefix forms place start hidden)
     :inner (vec (for [layer (range (dec layers))]
                   [(numbers "hidden") (* (at layer) hidden hidden)
                    (dense/part (numbers "hidden_bias") (at layer) hidden)]))
     :last [(numbers "last") (* place hidden outputs)
            (dense/part (numbers "last_bias") place outputs)]}))

(defn- networks
  "Each of [{:reads int-array}] with its layers: places go by how many they read."
  [tensors shape found]
  (let [width #(alength ^ints (:reads %))
        sorted (sort-by width found)
        starts (reductions + 0 (map width sorted))]
    (map #(merge %1 (layers tensors shape (count found) %2 %3))
         sorted (range) starts)))

(defn- columns-of
  "Free columns in state order, with their networks."
  [{:keys [blocks config] :as structure} tensors]
  (sort-by :column
           (networks tensors (of-columns config)
                     (map #(hash-map :column %1 :reads %2)
                          (columns/free-columns blocks) (reads structure)))))

(defn- contexts-of
  "Networks that give contexts, of observed values alone."
  [{:keys [config] :as structure} tensors]
  (networks tensors (of-contexts config)
            (for [observed (contexts structure)]
              {:reads (int-array (observed-reads (assoc structure :state-dim 0)
                                                 nil observed))})))

(defn- silu-layer ^doubles [in [matrix start bias]]
  (let [out (dense/affine in matrix start bias)]
    (amap out k _ (dense/silu (aget out k)))))

(defn- ends-of
  "What a network ends in, of some of these numbers."
  ^doubles [{:keys [^ints reads forms inner last] entry :first} ^doubles numbers]
  (let [in (double-array (alength reads))
        _ (dotimes [k (alength in)] (aset in k (aget numbers (aget reads k))))
        units (cond-> (silu-layer in entry)
                forms (columns/plus (forms/given-to-units forms in)))
        hidden (reduce #(columns/plus %1 (silu-layer %1 %2)) units inner)
        [matrix start bias] last]
    (dense/affine hidden matrix start bias)))

(defn- mixture-of
  "The mixture of a column that reads some of these numbers."
  [column ^doubles numbers]
  (let [ends (ends-of column numbers)
        count-of (quot (alength ends) 3)
        raw (dense/part ends 2 count-of)]
    (mixture/mixture (dense/part ends 0 count-of)
                     (dense/part ends 1 count-of)
                     (amap raw k _ (+ (double least-scale)
                                      (dense/softplus (aget raw k)))))))

(defn- beside-observed
  "Numbers that columns read: the state, observed values, contexts."
  ^doubles [contexts layer ^doubles v]
  (let [^doubles given (:given layer)]
    (double-array (concat v given (mapcat #(ends-of % given) contexts)))))

(defrecord Autoregressive [blocks columns contexts]
  kind/Network
  (from-base [_ layer base]
    ;; Nuisances first: no column reads them.
    (let [numbers (beside-observed contexts layer
                                   (normalisation/from-residual layer base))
          terms (columns/standard-normal base)]
      (doseq [{:keys [column] :as each} columns]
        (let [mixture (mixture-of each numbers)
              residual (mixture/quantile mixture (aget ^doubles base column))]
          (aset terms column (mixture/log-density mixture residual))
          (aset numbers column
                (normalisation/next-scaled layer numbers column residual))))
      {:scaled (java.util.Arrays/copyOf numbers (alength ^doubles base))
       :log-density (columns/per-node blocks terms)}))
  (log-density [_ layer scaled]
    (let [numbers (beside-observed contexts layer scaled)
          residual (normalisation/to-residual layer scaled)
          terms (columns/standard-normal residual)]
      (doseq [{:keys [column] :as each} columns]
        (aset terms column (mixture/log-density (mixture-of each numbers)
                                                (aget residual column))))
      (columns/per-node blocks terms)))
  (refined [network] [network]))

(def kind
  {:settings {"components" (kind/whole 1 1000)
              "layers" (kind/whole 1 64)
              "hidden" (kind/whole 1 4096)
              "last_layer_scale" number?
              "context" (kind/whole 0 1000)
              "forms" (kind/whole 0 1000)
              "log_beyond" number?}
   :shapes shapes
   :network (fn [structure tensors]
              (->Autoregressive (:blocks structure)
                                (vec (columns-of structure tensors))
                                (vec (contexts-of structure tensors))))})
