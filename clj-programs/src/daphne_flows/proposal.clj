(ns daphne-flows.proposal
  "This namespace is a flow as a proposal: one value and log density per sample site.

      (def proposal (load-proposal \"runs/tracking/artifact\"))
      (draw proposal {\"observe6\" -9.0} 1)
      ;=> {:sites {\"sample0\" {:value 0.31 :log-proposal -1.2} ...}
      ;    :nuisances [...] :log-proposal -7.4}

  Sites go by the document's names; observed values by these or the program's own. A
  site's log density is that of its value given the sites before it in the inverse and
  the observed values, relative to the standard normal of its nuisance columns: the sum
  over the sites is `:log-proposal`, and log p(z, x) minus that is a log weight."
  (:require [daphne-flows.artifact :as artifact]
            [daphne-flows.flow :as flow]
            [daphne-flows.integrated :as integrated]
            [daphne-flows.problem :refer [fail shown]]
            [daphne-flows.state-columns :refer [half-log-two-pi]]
            [daphne-flows.support :as support])
  (:import (java.util Random)))

(set! *warn-on-reflection* true)

(defn- support-of
  "The support of a latent: the caller's, else the manifest's."
  [{:strs [name support bounds]} supports]
  (or (supports name)
      (when support {:support support :bounds bounds})
      (fail (str "latent " name) "the artifact does not say where it has mass"
            ":supports {name {:support \"real\"}}" "none")))

(defn- with-steps [{:keys [network] :as flow} num-steps]
  (cond (nil? num-steps) flow
        (not (pos-int? num-steps)) (fail ":num-steps" "not a number of steps"
                                         "a whole number above 0" (shown num-steps))
        (not (contains? network :num-steps))
        (fail ":num-steps" "this flow is exact, nothing is solved step by step" "none"
              (shown num-steps))
        :else (assoc-in flow [:network :num-steps] num-steps)))

(defn load-proposal
  "The proposal of an artifact folder.

  Options: `:num-steps` of the solver of a continuous flow, by default as many as the
  golden values need; `:supports`, name -> {:support s :bounds b} for latents whose
  support or bounds the manifest leaves open, `b` being [low high], or a function of the
  earlier latents; `:log-densities`, node -> function of all values by name, which draw
  the latents that were integrated out in training."
  ([folder] (load-proposal folder {}))
  ([folder {:keys [num-steps supports log-densities] :or {supports {}}}]
   (let [{:keys [flow manifest]} (artifact/load-artifact folder)]
     {:flow (with-steps flow num-steps)
      :manifest manifest
      :latents (mapv #(assoc % :support (support-of % supports)) (:latents flow))
      :log-densities log-densities
      :integrated (integrated/conditionals manifest log-densities supports)})))

(defn- finite-number [value where]
  (let [value (cond (true? value) 1.0, (false? value) 0.0, :else value)]
    (when-not (and (number? value) (Double/isFinite (double value)))
      (fail where "not a finite number" "a number" (shown value)))
    (double value)))

(defn- flat
  "The numbers of a value of a shape, row by row."
  [value shape where]
  (let [numbers (if (sequential? value) (flatten value) [value])]
    (when-not (= (count numbers) (reduce * shape))
      (fail where "the value has another shape" (str shape) (shown value)))
    (mapv #(finite-number % where) numbers)))

(defn- shaped [numbers shape]
  (case (count shape)
    0 (first numbers)
    1 (vec numbers)
    (mapv vec (partition (peek shape) numbers))))

(defn- observed-values
  "The observed values by the document's names; every observed node must be given, and
  no other."
  [{:keys [flow]} values]
  (let [observed (:observed flow)
        known (set (mapcat (juxt #(% "name") #(% "label")) observed))]
    (when-let [unknown (first (remove known (keys values)))]
      (fail (str "observe " (shown unknown)) "no observed node has this name"
            (str "one of " (mapv #(% "label") observed)) nil))
    (into {}
          (map (fn [{:strs [name label shape]}]
                 (let [value (get values name (get values label ::none))]
                   (when (= value ::none)
                     (fail (str "observe " label) "no value"))
                   [name (shaped (flat value shape (str "observe " label)) shape)])))
          observed)))

(defn- row
  "Observed values as columns."
  ^doubles [{:keys [flow]} observed]
  (double-array (mapcat #(flatten [(observed (% "name"))]) (:observed flow))))

(defn log-joint
  "The sum of `:log-densities`, which must be of all nodes, as a function of latents."
  [{:keys [manifest log-densities] :as proposal} observed]
  (let [observed (observed-values proposal observed)
        names (map #(% "name") (get-in manifest ["model" "nodes"]))]
    (when-let [missing (first (remove #(contains? log-densities %) names))]
      (fail ":log-densities" (str "the log density of node " missing " is missing")))
    (fn [latents]
      (let [values (merge observed latents)]
        (reduce + (map #(% values) (vals log-densities)))))))

(defn- reference-log-density
  "log N(y; 0, I) of each block's nuisance columns."
  [{:keys [blocks]} nuisances]
  (first
   (reduce (fn [[found left] block]
             (let [[own left] (split-at (:nuisances block) left)]
               [(conj found (reduce + 0.0 (map #(- (* -0.5 % %) half-log-two-pi) own)))
                left]))
           [[] (seq nuisances)] blocks)))

(defn- per-site
  "Log density in natural values, relative to the nuisances' reference, by site."
  [flow log-density nuisances log-dets]
  (into {}
        (map (fn [{:keys [name]} density reference]
               [name (- density (log-dets name) reference)])
             (:blocks flow) log-density (reference-log-density flow nuisances))))

(defn- natural
  "Values by name and log|det d value / d free| by name, in the layout's order."
  [latents ^doubles free]
  (reduce (fn [[values log-dets] {:strs [name shape free_start free_stop] :as latent}]
            (let [own (mapv #(aget free %) (range free_start free_stop))
                  [numbers log-det] (support/to-value (:support latent) own values
                                                      (str "latent " name))]
              [(assoc values name (shaped numbers shape))
               (assoc log-dets name log-det)]))
          [{} {}] latents))

(defn- drawn [values densities nuisances]
  {:sites (into {} (map (fn [[name value]]
                          [name {:value value :log-proposal (densities name)}]))
                values)
   :nuisances (vec nuisances)
   :log-proposal (reduce + (vals densities))})

(defn- check-count [numbers wanted where]
  (when-not (= wanted (count numbers))
    (fail where "wrong number of columns" (str wanted) (str (count numbers)))))

(defn- base-dim
  "Numbers of a base point: those of the state, then one per latent beside the flow."
  [{:keys [flow integrated]}]
  (+ (:state-dim flow) (count (:order integrated))))

(defn draw-from-base
  "The draw of a base point, a standard normal in the order of the state, and then of
  the latents that were integrated out."
  [{:keys [flow latents integrated] :as proposal} observed base]
  (check-count base (base-dim proposal) "base")
  (let [[base beside] (split-at (:state-dim flow) base)
        observed (observed-values proposal observed)
        {:keys [free nuisances log-density]}
        (flow/base-to-latent flow (double-array base) (row proposal observed))
        [values log-dets] (natural latents free)
        [all densities] (integrated/drawn integrated (merge observed values) beside)]
    (drawn (apply dissoc all (keys observed))
           (merge (per-site flow log-density nuisances log-dets) densities)
           nuisances)))

(defn- normals [^Random random n]
  (double-array (repeatedly n #(.nextGaussian random))))

(defn draws
  "An endless sequence of draws given the observed values; equal seeds, equal draws."
  [proposal observed seed]
  (let [random (Random. seed)]
    (repeatedly #(draw-from-base proposal observed
                                 (normals random (base-dim proposal))))))

(defn draw
  "One draw: {:sites {name {:value v :log-proposal lq}} :nuisances [...]
  :log-proposal sum}."
  [proposal observed seed]
  (first (draws proposal observed seed)))

(defn- given [values name]
  (if (contains? values name)
    (values name)
    (fail (str "latent " name) "no value")))

(defn- freed
  "Free coordinates of natural values, and log|det d value / d free| by name."
  [{:keys [latents]} values]
  (reduce (fn [[free log-dets] {:strs [name shape] :as latent}]
            (let [where (str "latent " name)
                  [own log-det] (support/to-free (:support latent)
                                                 (flat (given values name) shape where)
                                                 values where)]
              [(into free own) (assoc log-dets name log-det)]))
          [[] {}] latents))

(defn log-density
  "The log density of given latents, {name value}, in the form of `draw`.

  `nuisances` are the nuisance columns of a draw; needed where the flow has any."
  ([proposal latents observed] (log-density proposal latents [] observed))
  ([{:keys [flow latents integrated] :as proposal} values nuisances observed]
   (let [observed (observed-values proposal observed)
         [free log-dets] (freed proposal values)
         beside (into {} (map (fn [name]
                                [name (first (flat (given values name) []
                                                   (str "latent " name)))]))
                      (:order integrated))]
     (check-count nuisances (- (:state-dim flow) (:free-dim flow)) "nuisances")
     (let [density (flow/log-density flow (double-array free) (double-array nuisances)
                                     (row proposal observed))]
       (drawn (select-keys values (concat (map #(% "name") latents) (keys beside)))
              (merge (per-site flow density nuisances log-dets)
                     (integrated/densities integrated (merge observed values beside)))
              nuisances)))))
