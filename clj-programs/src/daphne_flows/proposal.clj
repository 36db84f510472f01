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
  support or bounds the manifest leaves open. `b` is [low high], or a function of the
  earlier latents."
  ([folder] (load-proposal folder {}))
  ([folder {:keys [num-steps supports] :or {supports {}}}]
   (let [{:keys [flow manifest]} (artifact/load-artifact folder)]
     {:flow (with-steps flow num-steps)
      :manifest manifest
      :latents (mapv #(assoc % :support (support-of % supports)) (:latents flow))})))

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

(defn observed-row
  "The observed values as columns; every observed node must be given, and no other."
  ^doubles [{:keys [flow]} values]
  (let [observed (:observed flow)
        known (set (mapcat (juxt #(% "name") #(% "label")) observed))]
    (when-let [unknown (first (remove known (keys values)))]
      (fail (str "observe " (shown unknown)) "no observed node has this name"
            (str "one of " (mapv #(% "label") observed)) nil))
    (double-array
     (mapcat (fn [{:strs [name label shape]}]
               (let [value (get values name (get values label ::none))]
                 (when (= value ::none)
                   (fail (str "observe " label) "no value"))
                 (flat value shape (str "observe " label))))
             observed))))

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

(defn draw-from-base
  "The draw of a base point, a standard normal in the order of the state."
  [{:keys [flow latents] :as proposal} observed base]
  (let [row (observed-row proposal observed)
        {:keys [free nuisances log-density]}
        (flow/base-to-latent flow (double-array base) row)
        [values log-dets] (natural latents free)]
    (drawn values (per-site flow log-density nuisances log-dets) nuisances)))

(defn- normals [^Random random n]
  (double-array (repeatedly n #(.nextGaussian random))))

(defn draws
  "An endless sequence of draws given the observed values; equal seeds, equal draws."
  [{:keys [flow] :as proposal} observed seed]
  (let [random (Random. seed)]
    (repeatedly #(draw-from-base proposal observed
                                 (normals random (:state-dim flow))))))

(defn draw
  "One draw: {:sites {name {:value v :log-proposal lq}} :nuisances [...]
  :log-proposal sum}."
  [proposal observed seed]
  (first (draws proposal observed seed)))

(defn log-density
  "The log density of given latents, {name value}, in the form of `draw`.

  `nuisances` are the nuisance columns of a draw; needed where the flow has any."
  ([proposal latents observed] (log-density proposal latents [] observed))
  ([{:keys [flow] :as proposal} values nuisances observed]
   (let [row (observed-row proposal observed)
         free (double-array (:free-dim flow))
         wanted (- (:state-dim flow) (:free-dim flow))
         log-dets
         (reduce (fn [log-dets {:strs [name shape free_start] :as latent}]
                   (let [where (str "latent " name)
                         _ (when-not (contains? values name) (fail where "no value"))
                         [own log-det] (support/to-free
                                        (:support latent)
                                        (flat (values name) shape where) values where)]
                     (doseq [[k f] (map-indexed vector own)]
                       (aset free (+ (long free_start) (long k)) (double f)))
                     (assoc log-dets name log-det)))
                 {} (:latents proposal))]
     (when-not (= wanted (count nuisances))
       (fail "nuisances" "wrong number of columns" (str wanted)
             (str (count nuisances))))
     (let [density (flow/log-density flow free (double-array nuisances) row)]
       (drawn (select-keys values (map #(% "name") (:latents proposal)))
              (per-site flow density nuisances log-dets) nuisances)))))
