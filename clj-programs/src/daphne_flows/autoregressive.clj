(ns daphne-flows.autoregressive
  "This namespace is the kind `autoregressive`: a mixture for each free column.

  Free column c of a block reads the free columns of the block's parents, those of its
  own block before c, and the block's observed columns, all scaled. With silu(a) =
  a s(a), s the logistic function, its own network is

      h_1 = silu(reads A_1 + b_1)      h_l = h_{l-1} + silu(h_{l-1} A_l + b_l)
      (logits, centres, raw) = h_L A + b       scales = log(1 + e^raw) + 0.001

  and its residual coordinate has this mixture; nuisances are standard normal. Tensors
  hold the columns sorted by how many numbers they read, then as in the state."
  (:require [daphne-flows.dense :as dense]
            [daphne-flows.kind :as kind]
            [daphne-flows.mixture :as mixture]
            [daphne-flows.normalisation :as normalisation]
            [daphne-flows.state-columns :as columns]))

(set! *warn-on-reflection* true)

(def ^:private least-scale 1e-3)

(defn- free-reads
  "Per free column in state order, how many numbers it reads."
  [{:keys [blocks]}]
  (for [{:keys [parents free-size observed]} blocks
        k (range free-size)]
    (reduce + k (concat (map #(:free-size (blocks %)) parents) (map second observed)))))

(defn- reads
  "Per free column in state order, what it reads: state columns, then observed ones,
  which stand behind the state."
  [{:keys [blocks state-dim]}]
  (for [{:keys [start parents free-size observed]} blocks
        k (range free-size)]
    (int-array (concat (columns/free-columns (map blocks parents))
                       (range start (+ start k))
                       (mapcat (fn [[first width]]
                                 (range (+ state-dim first) (+ state-dim first width)))
                               observed)))))

(defn- shapes [{:keys [free-dim config] :as structure}]
  (let [{:strs [components layers hidden]} config
        outputs (* 3 components)]
    [["conditioner.first" [(reduce +' (free-reads structure)) hidden]]
     ["conditioner.first_bias" [free-dim hidden]]
     ["conditioner.hidden" [(dec layers) free-dim hidden hidden]]
     ["conditioner.hidden_bias" [(dec layers) free-dim hidden]]
     ["conditioner.last" [free-dim hidden outputs]]
     ["conditioner.last_bias" [free-dim outputs]]]))

(defn- placed
  "Free columns in state order, {:column :reads :place :first}: where their numbers
  stand among those of all columns, and among first weights."
  [structure hidden]
  (let [found (map #(hash-map :column %1 :reads %2)
                   (columns/free-columns (:blocks structure)) (reads structure))
        width #(alength ^ints (:reads %))
        sorted (sort-by width found)]
    (sort-by :column
             (map #(assoc %1 :place %2 :first (* hidden %3))
                  sorted (range) (reductions + 0 (map width sorted))))))

(defn- layers
  "[matrix start bias] of each layer of a column's network."
  [{:keys [free-dim config]} tensors {:keys [place first]}]
  (let [{:strs [components layers hidden]} config
        outputs (* 3 components)
        numbers #(tensors (str "conditioner." %))
        at (fn [layer] (+ (* layer free-dim) place))]
    {:first [(numbers "first") first (dense/part (numbers "first_bias") place hidden)]
     :inner (vec (for [layer (range (dec layers))]
                   [(numbers "hidden") (* (at layer) hidden hidden)
                    (dense/part (numbers "hidden_bias") (at layer) hidden)]))
     :last [(numbers "last") (* place hidden outputs)
            (dense/part (numbers "last_bias") place outputs)]}))

(defn- silu-layer ^doubles [in [matrix start bias]]
  (let [out (dense/affine in matrix start bias)]
    (amap out k _ (dense/silu (aget out k)))))

(defn- mixture-of
  "The mixture of a column that reads some of these numbers."
  [{:keys [^ints reads inner last] entry :first} ^doubles numbers]
  (let [in (double-array (alength reads))
        _ (dotimes [k (alength in)] (aset in k (aget numbers (aget reads k))))
        hidden (reduce #(columns/plus %1 (silu-layer %1 %2)) (silu-layer in entry) inner)
        [matrix start bias] last
        ends (dense/affine hidden matrix start bias)
        count-of (quot (alength ends) 3)
        raw (dense/part ends 2 count-of)]
    (mixture/mixture (dense/part ends 0 count-of)
                     (dense/part ends 1 count-of)
                     (amap raw k _ (+ (double least-scale)
                                      (dense/softplus (aget raw k)))))))

(defn- beside-observed ^doubles [layer ^doubles v]
  (let [^doubles given (:given layer)
        both (java.util.Arrays/copyOf v (+ (alength v) (alength given)))]
    (System/arraycopy given 0 both (alength v) (alength given))
    both))

(defrecord Autoregressive [blocks columns]
  kind/Network
  (from-base [_ layer base]
    ;; Nuisances first: no column reads them.
    (let [numbers (beside-observed layer (normalisation/from-residual layer base))
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
    (let [numbers (beside-observed layer scaled)
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
              "last_layer_scale" number?}
   :shapes shapes
   :network (fn [structure tensors]
              (->Autoregressive
               (:blocks structure)
               (mapv #(merge % (layers structure tensors %))
                     (placed structure (get-in structure [:config "hidden"])))))})
