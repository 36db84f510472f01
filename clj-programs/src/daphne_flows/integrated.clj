(ns daphne-flows.integrated
  "This namespace draws latents that the flow is not of, each given all before it.

  Latent i has the conditional density

      p(z_i | all before, x) ~ p(z_i | parents) prod over children j of p(z_j | parents),

  children that no other node reads left out: they integrate to one. It is of the
  model's own densities, one function per node, and a `grid` that is fitted to it, in
  free coordinates, is drawn from; what is drawn has the grid's exact density. Latents
  in each other's conditionals are normal together, and drawn so (`linked`)."
  (:require [clojure.string :as string]
            [daphne-flows.grid :as grid]
            [daphne-flows.linked :as linked]
            [daphne-flows.mixture :refer [normal-cdf]]
            [daphne-flows.problem :refer [fail shown]]
            [daphne-flows.support :as support]))

(set! *warn-on-reflection* true)

(def ^:private families
  {"real" ["normal" "laplace" "student-t" "student-t-loc-scale" "cauchy"]
   "positive" ["gamma" "chi-squared" "lognormal" "inverse-gamma" "exponential"
               "half-normal" "half-cauchy"]
   "unit interval" ["beta"]})

(def ^:private support-of-family
  (into {} (for [[support names] families, name names] [name support])))

(defn- support-of
  "The support of a latent: the caller's, else that of its family."
  [{:strs [name link]} supports where]
  (or (supports name)
      (when-let [found (support-of-family (second (re-find #"^\((\S+) " link)))]
        {:support found})
      (fail where "the artifact does not say where it has mass"
            ":supports {name {:support \"interval\" :bounds [0.0 1.0]}}" (shown link))))

(defn- unseen
  "Those of some latents that no other node reads, but for such."
  [nodes names]
  (loop [found #{}]
    (let [left (remove #(or (found (% "name")) false) nodes)
          read (set (mapcat #(% "parents") left))
          more (into #{} (remove read) names)]
      (if (= more found) found (recur more)))))

(defn- factors-of
  "The nodes whose densities are a latent's conditional given all others."
  [nodes unseen name]
  (filter (fn [{own "name" :strs [parents]}]
            (or (= own name) (and (some #{name} parents) (not (unseen own)))))
          nodes))

(defn- scope [node] (cons (node "name") (node "parents")))

(defn- density-of [log-densities {:strs [name]}]
  (or (log-densities name)
      (fail (str "latent " name) (str "the log density of node " name " is missing")
            ":log-densities {name (fn [values] ...)}" (shown (sort (keys log-densities))))))

(defn- check-known [factors known names]
  (when-let [ahead (first (remove (into known names) (mapcat scope factors)))]
    (fail (str "latent " (first names)) "its conditional reads what is not drawn before it"
          nil (shown ahead))))

(defn- conditional
  "{:names [name] :support :log-densities [f ...]} of a latent that is drawn by itself."
  [nodes log-densities supports known unseen name]
  (let [where (str "latent " name)
        own (first (filter #(= name (% "name")) nodes))
        factors (factors-of nodes unseen name)]
    (check-known factors known [name])
    {:names [name]
     :support (support-of own supports where)
     :log-densities (mapv #(density-of log-densities %) factors)}))

(defn- joint
  "{:names [name ...] :factors [...]} of latents that are normal together."
  [nodes log-densities known unseen names]
  (let [factors (distinct (mapcat #(factors-of nodes unseen %) names))
        place (zipmap names (range))]
    (check-known factors known names)
    {:names names
     :factors (mapv (fn [node]
                      {:log-density (density-of log-densities node)
                       :reads (vec (sort (distinct (keep place (scope node)))))})
                    factors)}))

(defn- components
  "Names that are joined by factors, in groups; each in the order of all."
  [nodes unseen names]
  (let [is-one (set names)
        blanket (into {} (map (fn [name]
                                [name (filter is-one (mapcat scope (factors-of nodes unseen
                                                                               name)))]))
                      names)
        reached (fn [name]
                  (loop [found #{name}, edge [name]]
                    (if-let [more (seq (distinct (remove found (mapcat blanket edge))))]
                      (recur (into found more) more)
                      found)))]
    (loop [left names, found []]
      (if-let [name (first left)]
        (let [own (reached name)]
          (recur (remove own left) (conj found (filterv own names))))
        found))))

(defn conditionals
  "Conditionals of the latents that a manifest says are integrated out, in the order in
  which they are drawn: {:order [name ...] :groups [...]}, some of one latent, others of
  several that are normal together.

  `log-densities` are functions by node of a map of all values, latent and observed."
  [{:strs [model integrated layout]} log-densities supports]
  (when (and (seq integrated) (empty? log-densities))
    (fail "load-proposal" (str "latents that this flow is not of are drawn from the "
                               "model's own densities")
          ":log-densities, or an artifact of train --integrate none"
          (string/join ", " integrated)))
  (let [nodes (model "nodes")
        known (into #{} (map #(% "name")) (concat (layout "latents") (layout "observed")))
        node-names (set (map #(% "name") nodes))
        unseen (unseen nodes integrated)]
    (when-let [strange (first (remove node-names (keys log-densities)))]
      (fail ":log-densities" "no node has this name" nil (shown strange)))
    (when-let [strange (first (remove node-names integrated))]
      (fail (str "latent " strange) "no node of the model"))
    (let [seen (components nodes unseen (remove unseen integrated))
          linked (filter next seen)
          joints (mapv #(joint nodes log-densities known unseen %) linked)
          after (into known cat linked)
          alone (remove (into #{} cat linked) integrated)]
      {:order (vec integrated)
       :groups (into joints
                     (map-indexed
                      (fn [i name]
                        (conditional nodes log-densities supports
                                     (into after (take i alone)) unseen name))
                      alone))})))

(defn- meant
  "What a function says, or NaN where it divides a number by a scale that is 0."
  [f]
  (try (f) (catch ArithmeticException _ ##NaN)))

(defn- grid-of
  "The grid of a latent's conditional in free coordinates.

  The search for it goes far out, where a function may have no meaning: there the
  density is nothing."
  [{[name] :names :keys [support log-densities]} values]
  (let [where (str "latent " name)]
    (grid/fitted
     (fn [free]
       (let [[[value] log-det] (support/to-value support [free] values where)
             values (assoc values name value)]
         (meant #(if (support/inside? support [value] values where)
                   (transduce (map (fn [f] (f values))) + log-det log-densities)
                   ##NaN))))
     where)))

(defn- normal-of
  "The density of latents that are normal together."
  [{:keys [names factors]} values]
  (linked/fitted
   (mapv (fn [{:keys [log-density reads]}]
           (let [own (mapv names reads)]
             {:f (fn [numbers] (meant #(log-density (into values (map vector own numbers)))))
              :reads reads}))
         factors)
   (count names)))

(defn- drawn-group
  "[values log-densities] of a group of latents from base points."
  [{:keys [names support] :as group} values points]
  (if (:factors group)
    (let [density (normal-of group values)
          found (linked/from-base density points)]
      [found (linked/log-densities density found)])
    (let [density (grid-of group values)
          free (grid/quantile density (normal-cdf (first points)))
          [value log-det] (support/to-value support [free] values (str "latent " (first names)))]
      [value [(- (grid/log-density density free) log-det)]])))

(defn drawn
  "The values with those of the conditionals put in, from standard normal points, and
  their log densities by name."
  [{:keys [order groups]} values base]
  (let [point (zipmap order base)]
    (reduce (fn [[values densities] {:keys [names] :as group}]
              (let [[found own] (drawn-group group values (mapv point names))]
                [(into values (map vector names found))
                 (into densities (map vector names own))]))
            [values {}] groups)))

(defn- densities-of
  "Log densities of a group of latents whose values are given."
  [{:keys [names support] :as group} values]
  (if (:factors group)
    (linked/log-densities (normal-of group values) (mapv values names))
    (let [[name] names
          [[free] log-det] (support/to-free support [(values name)] values
                                            (str "latent " name))]
      [(- (grid/log-density (grid-of group values) free) log-det)])))

(defn densities
  "Log densities by name of values that are given."
  [{:keys [groups]} values]
  (into {} (mapcat (fn [{:keys [names] :as group}]
                     (map vector names (densities-of group values))))
        groups))
