(ns daphne-flows.cnf
  "This namespace is the kind `cnf`: a vector field moves a standard normal base point
  at t = 0 to residual coordinates at t = 1."
  (:require [daphne-flows.kind :as kind]
            [daphne-flows.normalisation :as normalisation]
            [daphne-flows.solver :as solver]
            [daphne-flows.state-columns :as columns]
            [daphne-flows.vector-field :as field]))

(set! *warn-on-reflection* true)

(def ^:private step-counts [16 32 64 128 256 512 1024])

(defrecord Continuous [field num-steps]
  kind/Network
  (from-base [_ layer base]
    (let [{:keys [end log-det]}
          (solver/solve field base (field/observed-term field (:given layer)) 1
                        num-steps)]
      {:scaled (normalisation/from-residual layer end)
       :log-density (columns/minus (columns/per-node (:blocks field)
                                                     (columns/standard-normal base))
                                   log-det)}))
  (log-density [_ layer scaled]
    (let [{:keys [end log-det]}
          (solver/solve field (normalisation/to-residual layer scaled)
                        (field/observed-term field (:given layer)) -1 num-steps)]
      (columns/plus (columns/per-node (:blocks field) (columns/standard-normal end))
                    log-det)))
  (refined [network]
    (map #(assoc network :num-steps %) step-counts)))

(def kind
  {:settings {"layers" (kind/whole 2 64)
              "hidden" (kind/whole 0 4096)
              "residual" boolean?
              "last_layer_scale" number?}
   :shapes field/shapes
   :network (fn [structure tensors]
              (->Continuous (field/vector-field structure tensors)
                            (first step-counts)))})
