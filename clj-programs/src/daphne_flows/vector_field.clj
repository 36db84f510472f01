(ns daphne-flows.vector-field
  "This namespace is the masked network f(t, state, observed) with its exact divergence.

  With u_0 the state and L layers, layer l is

      a_l = (W_l u_{l-1} + b_l) * sigmoid(g_l t + k_l) + c_l t
      u_l = tanh(a_l)     (plus u_{l-1} for 1 < l < L with residual connections)
      f   = a_L

  and W_1 also has columns for the normalised observed values. The pattern of every
  layer is acyclic over the blocks plus the diagonal, so that the trace of df_i/dz_i is
  that of a product of diagonal blocks, D_L W_L,ii ... D_1 W_1,ii."
  (:require [daphne-flows.packing :as packing]
            [daphne-flows.structure :refer [state-runs]]))

(set! *warn-on-reflection* true)

(defn- hidden-size
  "Hidden units of a block; 0 stands for as many as it has state columns."
  [hidden {:keys [size free-size]}]
  (if (zero? hidden)
    size
    (max hidden (+ size (if (> free-size 1) (quot hidden 2) 0)))))

(defn- with-hidden
  "The structure with `:hidden` units of each block, and where they start."
  [{:keys [blocks config] :as structure}]
  (let [units (map #(hidden-size (config "hidden") %) blocks)]
    (assoc structure :blocks (mapv #(assoc %1 :hidden %2 :hidden-start %3)
                                   blocks units (reductions + 0 units)))))

(defn- architecture
  "Heights and patterns of all layers, and of the weights on observed values."
  [{:keys [blocks config] :as structure}]
  (let [layers (config "layers")
        hidden (mapv :hidden blocks)]
    {:outputs (conj (vec (repeat (dec layers) hidden)) (mapv :size blocks))
     :patterns (into [(state-runs structure :start :size)]
                     (repeat (dec layers)
                             (state-runs structure :hidden-start :hidden)))
     :hidden hidden
     :observed (map (fn [block] [(:observed block)]) blocks)}))

(def ^:private rows ["bias" "time_bias" "gate_rate" "gate_offset"])

(defn shapes
  "[name shape] of every tensor of a structure's field, counted without making any."
  [structure]
  (let [{:keys [outputs patterns hidden observed]} (architecture (with-hidden structure))
        total (reduce + (map #(reduce + %) outputs))]
    (concat (map-indexed (fn [layer [heights pattern]]
                           [(str "field.weights." layer)
                            [(packing/size heights pattern)]])
                         (map vector outputs patterns))
            [["field.observed_weight" [(packing/size hidden observed)]]]
            (map (fn [name] [(str "field." name) [total]]) rows))))

(defn vector-field
  "The network of a structure and its tensors."
  [structure tensors]
  (let [{:keys [blocks config state-dim] :as structure} (with-hidden structure)
        {:keys [outputs patterns hidden observed]} (architecture structure)
        [bias time-bias gate-rate gate-offset] (map #(tensors (str "field." %)) rows)]
    {:blocks blocks
     :residual (config "residual")
     :state-dim state-dim
     :weights (mapv #(tensors (str "field.weights." %)) (range (count outputs)))
     :packings (mapv packing/packing outputs patterns)
     :observed-weight (tensors "field.observed_weight")
     :observed-packing (packing/packing hidden observed)
     :widths (mapv #(reduce + %) outputs)
     :bias bias
     :time-bias time-bias
     :gate-rate gate-rate
     :gate-offset gate-offset}))

(defn observed-term
  "The first layer's bias plus its weights times the normalised observed values."
  ^doubles [{:keys [observed-packing observed-weight widths bias]} ^doubles observed]
  (packing/add-product! observed-packing observed-weight observed
                        (java.util.Arrays/copyOf ^doubles bias (int (first widths)))))

(defn- linear
  "W_l u + b_l of a layer whose outputs start at `offset` among all outputs."
  ^doubles [field layer offset ^doubles term ^doubles input]
  (let [start (if (zero? (long layer))
                (aclone term)
                (java.util.Arrays/copyOfRange
                 ^doubles (:bias field) (int offset)
                 (int (+ (long offset) (long ((:widths field) layer))))))]
    (packing/add-product! ((:packings field) layer) ((:weights field) layer)
                          input start)))

(defn evaluate
  "The velocity at a time and state, multiplied by `direction` (1 or -1), with the slope
  of every output: {:velocity doubles :slopes [doubles ...]}."
  [field time direction ^doubles term ^doubles state]
  (let [time (double time)
        direction (double direction)
        ^doubles rate (:gate-rate field)
        ^doubles shift (:gate-offset field)
        ^doubles drift (:time-bias field)
        last-layer (dec (count (:weights field)))]
    (loop [layer 0, offset 0, input state, slopes []]
      (let [active (linear field layer offset term input)
            width (alength active)
            slope (double-array width)
            is-last (= layer last-layer)
            adds (and (:residual field) (pos? layer) (not is-last))]
        (dotimes [k width]
          (let [o (+ offset k)
                gate (/ 1.0 (+ 1.0 (Math/exp (- (+ (* time (aget rate o))
                                                   (aget shift o))))))
                value (+ (* (aget active k) gate) (* time (aget drift o)))]
            (if is-last
              (do (aset active k (* direction value))
                  (aset slope k (* direction gate)))
              (let [bent (Math/tanh value)]
                (aset slope k (* gate (- 1.0 (* bent bent))))
                (aset active k (if adds (+ bent (aget ^doubles input k)) bent))))))
        (if is-last
          {:velocity active :slopes (conj slopes slope)}
          (recur (inc layer) (+ offset width) active (conj slopes slope)))))))

(defn- advanced
  "The next tangent, D W T (plus T with a residual connection), T being `h` by `s`."
  ^doubles [^doubles weights start ^doubles slope first-unit ^doubles tangent h s adds]
  (let [start (long start), first-unit (long first-unit), h (long h), s (long s)
        result (double-array (* h s))]
    (dotimes [r h]
      (dotimes [c s]
        (let [sum (double (loop [k 0 sum 0.0]
                            (if (< k h)
                              (recur (inc k)
                                     (+ sum (* (aget weights (+ start (* r h) k))
                                               (aget tangent (+ (* k s) c)))))
                              sum)))
              step (* sum (aget slope (+ first-unit r)))]
          (aset result (+ (* r s) c)
                (if adds (+ step (aget tangent (+ (* r s) c))) step)))))
    result))

(defn- block-trace
  "Trace of df_i/dz_i for block number i."
  [{:keys [blocks weights packings residual]} slopes i]
  (let [{:keys [start size hidden hidden-start]} (blocks i)
        start (long start), s (long size), h (long hidden), first-unit (long hidden-start)
        position (fn [layer] (aget ^longs (:diagonal (packings layer)) (int i)))
        last-layer (dec (count weights))
        ^doubles slope (first slopes)
        ^doubles entry (first weights)
        from (long (position 0))
        tangent (double-array (* h s))]
    (dotimes [r h]
      (dotimes [c s]
        (aset tangent (+ (* r s) c)
              (* (aget slope (+ first-unit r)) (aget entry (+ from (* r s) c))))))
    (let [^doubles tangent
          (reduce (fn [tangent layer]
                    (advanced (weights layer) (position layer) (slopes layer)
                              first-unit tangent h s residual))
                  tangent (range 1 last-layer))
          ^doubles gate (peek slopes)
          ^doubles exit (peek weights)
          from (long (position last-layer))]
      (loop [c 0 trace 0.0]
        (if (< c s)
          (recur (inc c)
                 (+ trace
                    (* (aget gate (+ start c))
                       (double (loop [k 0 sum 0.0]
                                 (if (< k h)
                                   (recur (inc k)
                                          (+ sum (* (aget exit (+ from (* c h) k))
                                                    (aget tangent (+ (* k s) c)))))
                                   sum))))))
          trace)))))

(defn divergence
  "Trace of each diagonal block of the Jacobian, in sampling order."
  ^doubles [field slopes]
  (double-array (map #(block-trace field slopes %) (range (count (:blocks field))))))
