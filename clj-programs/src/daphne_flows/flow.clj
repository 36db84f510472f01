(ns daphne-flows.flow
  "This namespace is the conditional flow: log densities of latents, and draws.

  Latents are in free coordinates, z; with v = (z - shift) / scale and likewise for the
  observed values x, the residual coordinates are

      r_i = (v_i - centre_i - B_i v) / residual_scale_i,

  with numbers that depend on x (by `factors`, or centre = offset + C x), and the vector field moves a standard normal base point at t = 0 to r at t = 1. Per
  node, log q = log N(base) + log|det d base / d r| + log|det dr / dz|."
  (:require [daphne-flows.factors :as factors]
            [daphne-flows.packing :as packing]
            [daphne-flows.problem :refer [fail]]
            [daphne-flows.solver :as solver]
            [daphne-flows.structure :as structure]
            [daphne-flows.vector-field :as field]))

(set! *warn-on-reflection* true)

(def ^:private half-log-two-pi (* 0.5 (Math/log (* 2.0 Math/PI))))

(defn- numbers ^doubles [tensors name length where]
  (let [{:keys [shape values]} (tensors (str "normalisation." name))]
    (when (not= shape [length])
      (fail where (str "the tensor normalisation." name " does not fit the layout")
            (str "shape [" length "]") (str (or shape "none"))))
    values))

(defn- affine-numbers
  "The affine layer's own numbers, the same for all data."
  [{:keys [state-dim] :as structure} tensors where]
  (let [ones (repeat state-dim 1)
        state (fn [name] (numbers tensors name state-dim where))
        offset (state "offset")
        reads (structure/affine-runs structure)
        observed-reads (structure/affine-observed-runs structure)]
    {:offset offset
     :residual-scale (state "residual_scale")
     :coefficients (numbers tensors "coefficients" (packing/size ones reads) where)
     :packing (packing/packing ones reads)
     :observed-coefficients (numbers tensors "observed_coefficients"
                                     (packing/size ones observed-reads) where)
     :observed-packing (packing/packing ones observed-reads)}))

(defn- factor-numbers
  "The factors' numbers, and where they go."
  [{:keys [blocks factors state-dim] :as structure} tensors where]
  {:factors factors
   :factor-coefficients (numbers tensors "factor_coefficients" (factors/size factors)
                                 where)
   :free (for [{:keys [start free-size]} blocks, k (range free-size)] (+ start k))
   :packing (packing/packing (repeat state-dim 1) (structure/triangle-runs structure))})

(defn- normalisation
  [{:keys [state-dim observed-dim factors] :as structure} tensors where]
  (let [shift (numbers tensors "shift" state-dim where)] ; before runs are listed
    (merge {:shift shift
            :scale (numbers tensors "scale" state-dim where)
            :observed-shift (numbers tensors "observed_shift" observed-dim where)
            :observed-scale (numbers tensors "observed_scale" observed-dim where)}
           ((if factors factor-numbers affine-numbers) structure tensors where))))

(defn flow
  "The flow of a structure and the tensors of `weights.safetensors`."
  [structure tensors where]
  (let [normalisation (normalisation structure tensors where)
        network (field/vector-field structure tensors where)
        known (+ (if (:factors structure) 10 13) (:layers structure))]
    (when (not= known (count tensors))
      (fail where "tensors that do not belong to the flow" (str known " tensors")
            (str (count tensors))))
    (assoc structure :normalisation normalisation :network network)))

(defn- per-node
  "Sums of a state's columns over the columns of each node."
  ^doubles [{:keys [blocks]} ^doubles columns]
  (double-array
   (map (fn [{:keys [start size]}]
          (let [start (long start), stop (+ start (long size))]
            (loop [i start sum 0.0]
              (if (< i stop) (recur (inc i) (+ sum (aget columns i))) sum))))
        blocks)))

(defn- base-log-density [flow ^doubles base]
  (per-node flow (amap base i _ (- (* -0.5 (aget base i) (aget base i))
                                   (double half-log-two-pi)))))

(defn- affine-of
  "The affine layer {:centre :residual-scale :coefficients} of normalised values."
  [{:keys [normalisation state-dim]} ^doubles normalised]
  (if-let [factors (:factors normalisation)]
    (factors/affine factors (:factor-coefficients normalisation) normalised
                    (:free normalisation) state-dim)
    (assoc (select-keys normalisation [:residual-scale :coefficients])
           :centre (packing/add-product! (:observed-packing normalisation)
                                         (:observed-coefficients normalisation)
                                         normalised
                                         (aclone ^doubles (:offset normalisation))))))

(defn- given
  "What the observed values determine: {:affine its layer, :term the field's term}."
  [{:keys [normalisation network] :as flow} ^doubles observed]
  (let [^doubles shift (:observed-shift normalisation)
        ^doubles scale (:observed-scale normalisation)
        normalised (amap observed i _ (/ (- (aget observed i) (aget shift i))
                                         (aget scale i)))]
    {:affine (affine-of flow normalised)
     :term (field/observed-term network normalised)}))

(defn- affine-log-det
  "log|det dr/dz| per node."
  [{:keys [normalisation] :as flow} affine]
  (let [^doubles scale (:scale normalisation)
        ^doubles residual-scale (:residual-scale affine)]
    (per-node flow (amap scale i _ (- (+ (Math/log (aget scale i))
                                         (Math/log (aget residual-scale i))))))))

(defn- to-residual
  ^doubles [{:keys [normalisation]} affine ^doubles state]
  (let [^doubles shift (:shift normalisation)
        ^doubles scale (:scale normalisation)
        ^doubles residual-scale (:residual-scale affine)
        ^doubles scaled (amap state i _ (/ (- (aget state i) (aget shift i))
                                           (aget scale i)))
        ^doubles predicted (packing/add-product! (:packing normalisation)
                                                 (:coefficients affine) scaled
                                                 (aclone ^doubles (:centre affine)))]
    (amap scaled i _ (/ (- (aget scaled i) (aget predicted i))
                        (aget residual-scale i)))))

(defn- from-residual
  "Undoes `to-residual`: column after column, as each reads earlier ones only."
  ^doubles [{:keys [normalisation]} affine ^doubles residual]
  (let [^doubles shift (:shift normalisation)
        ^doubles scale (:scale normalisation)
        ^doubles residual-scale (:residual-scale affine)
        ^doubles centre (:centre affine)
        ^doubles coefficients (:coefficients affine)
        ^ints parts (:parts (:packing normalisation))
        end (alength parts)
        ^doubles scaled (amap residual i _ (+ (* (aget residual i)
                                                 (aget residual-scale i))
                                              (aget centre i)))]
    ;; The parts stand row by row, so a row's columns are final when it is reached.
    (loop [p 0]
      (when (< p end)
        (let [row (aget parts p)
              start (aget parts (+ p 2))
              column (aget parts (+ p 4))]
          (dotimes [c (aget parts (+ p 5))]
            (aset scaled row (+ (aget scaled row)
                                (* (aget coefficients (+ start c))
                                   (aget scaled (+ column c))))))
          (recur (+ p 6)))))
    (amap scaled i _ (+ (* (aget scaled i) (aget scale i)) (aget shift i)))))

(defn- join
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

(defn- split
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

(defn- sum-arrays ^doubles [^doubles a ^doubles b]
  (amap a i _ (+ (aget a i) (aget b i))))

(defn base-to-latent
  "The latents of a base point, with log q per node in sampling order.

  {:free doubles :nuisances doubles :log-density doubles}"
  [flow ^doubles base ^doubles observed num-steps]
  (let [{:keys [affine term]} (given flow observed)
        {:keys [end ^doubles log-det]} (solver/solve (:network flow) base term 1
                                                     num-steps)
        density (sum-arrays (base-log-density flow base) (affine-log-det flow affine))]
    (assoc (split flow (from-residual flow affine end))
           :log-density (amap density i _ (- (aget density i) (aget log-det i))))))

(defn log-density
  "log q(free, nuisances | observed) per node in sampling order, in nats."
  ^doubles [flow free nuisances observed num-steps]
  (let [{:keys [affine term]} (given flow observed)
        start (to-residual flow affine (join flow free nuisances))
        {:keys [end log-det]} (solver/solve (:network flow) start term -1 num-steps)]
    (sum-arrays (sum-arrays (base-log-density flow end) log-det)
                (affine-log-det flow affine))))
