(ns daphne-flows.normalisation
  "This namespace maps latents in free coordinates, z, to scaled and residual ones.

  With v = (z - shift) / scale, and likewise w of the observed values,

      r_i = (v_i - centre_i - B_i v) / residual-scale_i,

  with numbers that depend on w: by `factors`, or centre = offset + C w. Of columns
  whose `observed_beyond` b is not 0, w of size above b are sign(w) b (1 + log |w / b|).
  A *layer* is this map for given observed values; B is strictly lower triangular, row
  by row."
  (:require [daphne-flows.factors :as factors]
            [daphne-flows.packing :as packing]
            [daphne-flows.state-columns :as columns]
            [daphne-flows.structure :as structure]))

(set! *warn-on-reflection* true)

(defn- reads [{:keys [factors] :as structure}]
  (if factors (structure/triangle-runs structure) (structure/affine-runs structure)))

(defn- ones [{:keys [state-dim]}] (repeat state-dim 1))

(defn- takes-logarithms? [{:keys [factors config]}]
  (and (not factors) (pos? (get config "log_beyond" 0))))

(defn shapes
  "[name shape] of every tensor, the numbers of columns first: what is listed column by
  column is not made before these are known to be true."
  [{:keys [state-dim observed-dim factors] :as structure}]
  (let [named (fn [name length] [(str "normalisation." name) [length]])]
    (lazy-cat
     [(named "shift" state-dim)]
     [(named "scale" state-dim)
      (named "observed_shift" observed-dim)
      (named "observed_scale" observed-dim)]
     (when (takes-logarithms? structure)
       [(named "observed_beyond" observed-dim)])
     (if factors
       [(named "factor_coefficients" (factors/size factors))]
       [(named "offset" state-dim)
        (named "residual_scale" state-dim)
        (named "coefficients" (packing/size (ones structure) (reads structure)))
        (named "observed_coefficients"
               (packing/size (ones structure)
                             (structure/affine-observed-runs structure)))]))))

(defn normalisation
  "The numbers of a structure's normalisation, and where they go."
  [{:keys [blocks factors] :as structure} tensors]
  (let [named #(tensors (str "normalisation." %))
        reads (reads structure)
        packed (packing/packing (ones structure) reads)]
    (merge {:blocks blocks
            :shift (named "shift")
            :scale (named "scale")
            :observed-shift (named "observed_shift")
            :observed-scale (named "observed_scale")
            :observed-beyond (when (takes-logarithms? structure)
                               (named "observed_beyond"))
            :parts (:parts packed)
            ;; Where the parts of each row begin, six numbers for each run.
            :rows (long-array (reductions + 0 (map (fn [[runs]] (* 6 (count runs)))
                                                   reads)))}
           (if factors
             {:factors factors
              :factor-coefficients (named "factor_coefficients")
              :free (columns/free-columns blocks)}
             {:offset (named "offset")
              :residual-scale (named "residual_scale")
              :coefficients (named "coefficients")
              :observed-coefficients (named "observed_coefficients")
              :observed-packing
              (packing/packing (ones structure)
                               (structure/affine-observed-runs structure))}))))

(defn- affine
  "{:centre :residual-scale :coefficients} of normalised observed values."
  [{:keys [factors ^doubles shift] :as normalisation} given]
  (if factors
    (factors/affine factors (:factor-coefficients normalisation) given
                    (:free normalisation) (alength shift))
    (assoc (select-keys normalisation [:residual-scale :coefficients])
           :centre (packing/add-product! (:observed-packing normalisation)
                                         (:observed-coefficients normalisation) given
                                         (aclone ^doubles (:offset normalisation))))))

(defn scaled
  "v of a state."
  ^doubles [{:keys [^doubles shift ^doubles scale]} ^doubles state]
  (amap state i _ (/ (- (aget state i) (aget shift i)) (aget scale i))))

(defn unscaled
  "The state of v; undoes `scaled`."
  ^doubles [{:keys [^doubles shift ^doubles scale]} ^doubles v]
  (amap v i _ (+ (* (aget v i) (aget scale i)) (aget shift i))))

(defn- nearer
  "Values w, or sign(w) b (1 + log |w / b|) where |w| > b > 0."
  ^doubles [^doubles w ^doubles beyond]
  (amap w i _ (let [size (Math/abs (aget w i)), b (aget beyond i)]
                (if (< 0.0 b size)
                  (* (Math/signum (aget w i)) b (+ 1.0 (Math/log (/ size b))))
                  (aget w i)))))

(defn layer
  "The map for observed values; `:given` are these, normalised, and `:log-det` is
  log|det dr/dz| per node."
  [{:keys [blocks observed-shift observed-scale observed-beyond ^doubles scale]
    :as normalisation}
   observed]
  (let [given (cond-> (scaled {:shift observed-shift :scale observed-scale} observed)
                observed-beyond (nearer observed-beyond))
        {:keys [^doubles residual-scale] :as affine} (affine normalisation given)]
    (merge (select-keys normalisation [:shift :scale :parts :rows])
           affine
           {:given given
            :log-det (columns/per-node
                      blocks (amap scale i _ (- (+ (Math/log (aget scale i))
                                                   (Math/log (aget residual-scale i))))))})))

(defn- predicted
  "centre_i + B_i v; columns of v from i on are not looked at."
  ^double [layer ^doubles v ^long i]
  (let [^doubles centre (:centre layer)
        ^doubles coefficients (:coefficients layer)
        ^ints parts (:parts layer)
        ^longs rows (:rows layer)
        end (aget rows (inc i))]
    (loop [p (aget rows i), sum (aget centre i)]
      (if (< p end)
        (let [start (aget parts (+ p 2)), column (aget parts (+ p 4))
              width (aget parts (+ p 5))]
          (recur (+ p 6)
                 (double (loop [c 0 sum sum]
                           (if (< c width)
                             (recur (inc c) (+ sum (* (aget coefficients (+ start c))
                                                      (aget v (+ column c)))))
                             sum)))))
        sum))))

(defn next-scaled
  "v_i of r_i, given v of the columns before it."
  ^double [layer ^doubles v ^long i ^double residual]
  (+ (* residual (aget ^doubles (:residual-scale layer) i)) (predicted layer v i)))

(defn from-residual
  "v of residual coordinates, column after column; undoes `to-residual`."
  ^doubles [layer ^doubles residual]
  (let [v (double-array (alength residual))]
    (dotimes [i (alength v)]
      (aset v i (next-scaled layer v i (aget residual i))))
    v))

(defn to-residual
  "Residual coordinates of v."
  ^doubles [layer ^doubles v]
  (let [^doubles residual-scale (:residual-scale layer)]
    (amap v i _ (/ (- (aget v i) (predicted layer v i)) (aget residual-scale i)))))
