(ns daphne-flows.flow
  "This namespace is the conditional flow, of any kind: log densities of latents, draws.

  Latents are in free coordinates. A kind carries standard normal base points to
  residual coordinates r, and `normalisation` r to latents z; per node,

      log q = log q(r) + log|det dr / dz|."
  (:require [clojure.set :as set]
            [clojure.string :as string]
            [daphne-flows.autoregressive :as autoregressive]
            [daphne-flows.cnf :as cnf]
            [daphne-flows.finite :as finite]
            [daphne-flows.kind :as kind]
            [daphne-flows.normalisation :as normalisation]
            [daphne-flows.problem :refer [fail shown]]
            [daphne-flows.state-columns :as columns]))

(set! *warn-on-reflection* true)

(def kinds
  "By the name that a manifest uses."
  {"autoregressive" autoregressive/kind
   "cnf" cnf/kind
   "finite" finite/kind})

(defn kind-of
  "The kind of this name, its settings checked."
  [{name "kind" config "config"} where]
  (let [kind (or (kinds name)
                 (fail where "another kind of flow than this reader knows"
                       (string/join " or " (sort (keys kinds))) (shown name)))]
    (kind/check-settings kind config (str where ": $.flow.config"))
    kind))

(defn- check-shapes
  "Throws unless the tensors are these; shapes are asked for one after the other."
  [shapes tensors where]
  (let [named (reduce (fn [names [name shape]]
                        (let [found (get-in tensors [name :shape])]
                          (when (not= found shape)
                            (fail where
                                  (str "the tensor " name
                                       " does not fit the architecture")
                                  (str "shape " shape) (str (or found "none"))))
                          (conj names name)))
                      #{} shapes)]
    (when-let [strange (first (set/difference (set (keys tensors)) named))]
      (fail where "a tensor that does not belong to the flow" nil (shown strange)))))

(defn flow
  "The flow of a structure and the tensors of `weights.safetensors`."
  [structure kind tensors where]
  (check-shapes (lazy-cat (normalisation/shapes structure) ((:shapes kind) structure))
                tensors where)
  (let [numbers #(:values (tensors %))]
    (assoc structure
           :normalisation (normalisation/normalisation structure numbers)
           :network ((:network kind) structure numbers))))

(defn refined
  "The flow, closer and closer to what it means; see `kind`."
  [flow]
  (map #(assoc flow :network %) (kind/refined (:network flow))))

(defn base-to-latent
  "The latents of a base point, with log q per node in sampling order.

  {:free doubles :nuisances doubles :log-density doubles}"
  [{:keys [normalisation network] :as flow} base observed]
  (let [layer (normalisation/layer normalisation observed)
        {:keys [scaled log-density]} (kind/from-base network layer base)]
    (assoc (columns/split flow (normalisation/unscaled layer scaled))
           :log-density (columns/plus log-density (:log-det layer)))))

(defn log-density
  "log q(free, nuisances | observed) per node in sampling order, in nats."
  ^doubles [{:keys [normalisation network] :as flow} free nuisances observed]
  (let [layer (normalisation/layer normalisation observed)
        scaled (normalisation/scaled layer (columns/join flow free nuisances))]
    (columns/plus (kind/log-density network layer scaled) (:log-det layer))))
