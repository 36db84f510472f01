(ns daphne-flows.finite
  "This namespace is the kind `finite`: the columns of each node go through a chain
  whose numbers come from the node's own network.

  The network reads the residual columns of the node's parents, then its observed
  columns, with tanh between its layers; a node that reads nothing has constants. Nodes
  of as many columns and inputs are a *group*, their weights one tensor per layer."
  (:require [daphne-flows.chain :as chain]
            [daphne-flows.dense :as dense]
            [daphne-flows.kind :as kind]
            [daphne-flows.normalisation :as normalisation]
            [daphne-flows.state-columns :as columns]))

(set! *warn-on-reflection* true)

(defn- shape-of
  "[columns inputs] of a block."
  [blocks {:keys [size parents observed]}]
  [size (reduce + (concat (map #(:size (blocks %)) parents) (map second observed)))])

(defn- groups
  "Shapes in the order of their first blocks."
  [blocks]
  (distinct (map #(shape-of blocks %) blocks)))

(defn- widths [{:strs [hidden layers] :as config} [size inputs]]
  (concat [inputs]
          (when (pos? inputs) (repeat layers hidden))
          [(chain/width config size)]))

(defn- tensor-name [group part layer] (str "networks.groups." group "." part "." layer))

(defn- shapes [{:keys [blocks config]}]
  (let [counts (frequencies (map #(shape-of blocks %) blocks))]
    (for [[group shape] (map-indexed vector (groups blocks))
          [layer [in out]] (map-indexed vector (partition 2 1 (widths config shape)))
          entry [[(tensor-name group "weights" layer) [(counts shape) in out]]
                 [(tensor-name group "biases" layer) [(counts shape) 1 out]]]]
      entry)))

(defn- layers
  "[matrix start bias] of each layer of a node's network."
  [config tensors group row shape]
  (vec (for [[layer [in out]] (map-indexed vector
                                           (partition 2 1 (widths config shape)))]
         [(tensors (tensor-name group "weights" layer))
          (* row in out)
          (dense/part (tensors (tensor-name group "biases" layer)) row out)])))

(defn- with-networks
  "The blocks, each with the `:layers` of its network."
  [{:keys [blocks config]} tensors]
  (let [group (zipmap (groups blocks) (range))]
    (first
     (reduce (fn [[done seen] block]
               (let [shape (shape-of blocks block)]
                 [(conj done (assoc block :layers (layers config tensors (group shape)
                                                          (seen shape 0) shape)))
                  (update seen shape (fnil inc 0))]))
             [[] {}] blocks))))

(defn- own [{:keys [start size]} state] (subvec state start (+ start size)))

(defn- numbers
  "What a node's network gives for residual columns and observed values."
  [blocks {:keys [parents observed layers]} state given]
  (let [in (double-array
            (concat (mapcat #(own (blocks %) state) parents)
                    (mapcat (fn [[start width]] (subvec given start (+ start width)))
                            observed)))
        through (fn [in [matrix start bias]] (dense/affine in matrix start bias))]
    (vec (reduce (fn [^doubles hidden layer]
                   (through (amap hidden k _ (Math/tanh (aget hidden k))) layer))
                 (through in (first layers)) (rest layers)))))

(defrecord Finite [blocks config]
  kind/Network
  (from-base [_ layer base]
    (let [given (vec (:given layer)), base (vec base)
          [state log-dets]
          (reduce (fn [[state log-dets] block]
                    (let [[point log-det]
                          (chain/to-latent config (numbers blocks block state given)
                                           (own block base))]
                      [(into state point) (conj log-dets log-det)]))
                  [[] []] blocks)
          terms (columns/standard-normal (double-array base))]
      {:scaled (normalisation/from-residual layer (double-array state))
       :log-density (columns/minus (columns/per-node blocks terms)
                                   (double-array log-dets))}))
  (log-density [_ layer scaled]
    (let [given (vec (:given layer))
          state (vec (normalisation/to-residual layer scaled))
          found (mapv #(chain/to-base config (numbers blocks % state given)
                                      (own % state))
                      blocks)
          terms (columns/standard-normal (double-array (mapcat first found)))]
      (columns/minus (columns/per-node blocks terms)
                     (double-array (map second found)))))
  (refined [network] [network]))

(def kind
  {:settings {"transform" #(contains? chain/layers %)
              "length" (kind/whole 0 1024)
              "hidden" (kind/whole 1 1024)
              "layers" (kind/whole 1 16)}
   :shapes shapes
   :network (fn [structure tensors]
              (->Finite (with-networks structure tensors) (:config structure)))})
