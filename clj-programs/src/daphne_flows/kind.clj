(ns daphne-flows.kind
  "This namespace is what the flow asks of each kind of it.

  A kind is {:settings name -> predicate, :shapes f, :network g}. `f` of a structure
  gives [name shape] of every tensor that is the kind's own, and g of a structure and
  its tensors a `Network`. A structure holds the settings as `:config`."
  (:require [clojure.string :as string]
            [daphne-flows.problem :refer [fail shown]]))

(defprotocol Network
  "Carries standard normal base points to residual coordinates, given a layer of
  `normalisation`, which also knows the normalised observed values."
  (from-base [network layer base]
    "Where a base point goes: {:scaled its normalised latents, :log-density per node},
    the density that of the residual coordinates.")
  (log-density [network layer scaled]
    "The same density per node, of normalised latents.")
  (refined [network]
    "The network, closer and closer: each further one is nearer to what it means. One
    alone where nothing is solved step by step."))

(defn whole
  "Says of a value whether it is a whole number between bounds."
  [low high]
  (fn [value] (and (int? value) (<= low value high))))

(defn check-settings
  "Throws unless a configuration has these settings and no other."
  [{:keys [settings]} config where]
  (when-not (and (map? config) (= (set (keys config)) (set (keys settings))))
    (fail where "not the settings of this kind of flow"
          (string/join ", " (sort (keys settings)))
          (shown config)))
  (doseq [[name is-known] settings]
    (when-not (is-known (config name))
      (fail (str where "." name) "no value that this kind of flow takes" nil
            (shown (config name))))))
