(ns daphne-flows.state-columns
  "This namespace turns latents and nuisances into state columns, and back.

  The state has one block per latent, its free columns first; free coordinates alone
  stand in layout order, nuisances block after block.")

(set! *warn-on-reflection* true)

(def half-log-two-pi (* 0.5 (Math/log (* 2.0 Math/PI))))

(defn join
  "The state of free columns and nuisance columns."
  ^doubles [{:keys [blocks state-dim]} ^doubles free ^doubles nuisances]
  (let [state (double-array state-dim)]
    (reduce (fn [used {:keys [start free-start free-size] nuisances-of :nuisances}]
              (System/arraycopy free (int free-start) state (int start) (int free-size))
              (System/arraycopy nuisances (int used) state (int (+ start free-size))
                                (int nuisances-of))
              (+ used nuisances-of))
            0 blocks)
    state))

(defn split
  "Undoes `join`: {:free doubles :nuisances doubles}."
  [{:keys [blocks state-dim free-dim]} ^doubles state]
  (let [free (double-array free-dim)
        nuisances (double-array (- state-dim free-dim))]
    (reduce (fn [used {:keys [start free-start free-size] nuisances-of :nuisances}]
              (System/arraycopy state (int start) free (int free-start) (int free-size))
              (System/arraycopy state (int (+ start free-size)) nuisances (int used)
                                (int nuisances-of))
              (+ used nuisances-of))
            0 blocks)
    {:free free :nuisances nuisances}))

(defn free-columns
  "State columns of the free coordinates, increasing."
  [blocks]
  (mapcat (fn [{:keys [start free-size]}] (range start (+ start free-size))) blocks))

(defn per-node
  "Sums of a state's columns over the columns of each node."
  ^doubles [blocks ^doubles columns]
  (double-array
   (map (fn [{:keys [start size]}]
          (let [start (long start), stop (+ start (long size))]
            (loop [i start sum 0.0]
              (if (< i stop) (recur (inc i) (+ sum (aget columns i))) sum))))
        blocks)))

(defn standard-normal
  "log N(e; 0, 1) of each column."
  ^doubles [^doubles columns]
  (amap columns i _ (- (* -0.5 (aget columns i) (aget columns i))
                       (double half-log-two-pi))))

(defn plus ^doubles [^doubles a ^doubles b]
  (amap a i _ (+ (aget a i) (aget b i))))

(defn minus ^doubles [^doubles a ^doubles b]
  (amap a i _ (- (aget a i) (aget b i))))
