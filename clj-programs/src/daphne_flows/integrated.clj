(ns daphne-flows.integrated
  "This namespace draws latents that the flow is not of, each given all before it.

  Latent i has the conditional density

      p(z_i | all before, x) ~ p(z_i | parents) prod over children j of p(z_j | parents),

  children that are drawn later left out: they integrate to one. It is of the model's
  own densities, one function per node, and a `grid` that is fitted to it, in free
  coordinates, is drawn from; what is drawn has the grid's exact density."
  (:require [clojure.string :as string]
            [daphne-flows.grid :as grid]
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

(defn- conditional
  "{:name :support :log-densities [f ...]} of a latent drawn before some others."
  [nodes log-densities supports known later name]
  (let [where (str "latent " name)
        own (or (first (filter #(= name (% "name")) nodes))
                (fail where "no node of the model"))
        reads (fn [{:strs [parents]}] (some #{name} parents))
        factors (cons own (filter #(and (reads %) (not (later (% "name")))) nodes))]
    (when-let [ahead (first (remove (conj known name)
                                    (mapcat #(cons (% "name") (% "parents")) factors)))]
      (fail where "its conditional reads what is not drawn before it" nil (shown ahead)))
    {:name name
     :support (support-of own supports where)
     :log-densities
     (mapv (fn [{:strs [name]}]
             (or (log-densities name)
                 (fail where (str "the log density of node " name " is missing")
                       ":log-densities {name (fn [values] ...)}"
                       (shown (sort (keys log-densities))))))
           factors)}))

(defn conditionals
  "Conditionals of the latents that a manifest says are integrated out, in the order in
  which they are drawn.

  `log-densities` are functions by node of a map of all values, latent and observed."
  [{:strs [model integrated layout]} log-densities supports]
  (when (and (seq integrated) (empty? log-densities))
    (fail "load-proposal" (str "latents that this flow is not of are drawn from the "
                               "model's own densities")
          ":log-densities, or an artifact of train --integrate none"
          (string/join ", " integrated)))
  (let [nodes (model "nodes")
        given (into #{} (map #(% "name")) (concat (layout "latents") (layout "observed")))]
    (when-let [strange (first (remove (set (map #(% "name") nodes)) (keys log-densities)))]
      (fail ":log-densities" "no node has this name" nil (shown strange)))
    (vec (map-indexed
          (fn [i name]
            (conditional nodes log-densities supports
                         (into given (take i integrated))
                         (set (drop (inc i) integrated))
                         name))
          integrated))))

(defn- fitted
  "The grid of a conditional in free coordinates.

  The search for it goes far out, where a function may divide by a scale that is 0:
  there the density is nothing."
  [{:keys [name support log-densities]} values]
  (let [where (str "latent " name)]
    (grid/fitted
     (fn [free]
       (let [[[value] log-det] (support/to-value support [free] values where)
             values (assoc values name value)]
         (try
           (if (support/inside? support [value] values where)
             (reduce + log-det (map #(% values) log-densities))
             ##NaN)
           (catch ArithmeticException _ ##NaN))))
     where)))

(defn drawn
  "The values with those of the conditionals put in, from standard normal points, and
  their log densities by name."
  [conditionals values base]
  (reduce (fn [[values densities] [{:keys [name support] :as each} e]]
            (let [found (fitted each values)
                  free (grid/quantile found (normal-cdf e))
                  [[value] log-det] (support/to-value support [free] values
                                                      (str "latent " name))]
              [(assoc values name value)
               (assoc densities name (- (grid/log-density found free) log-det))]))
          [values {}] (map vector conditionals base)))

(defn densities
  "Log densities by name of values that are given."
  [conditionals values]
  (into {}
        (map (fn [{:keys [name support] :as each}]
               (let [[[free] log-det] (support/to-free support [(values name)] values
                                                       (str "latent " name))]
                 [name (- (grid/log-density (fitted each values) free) log-det)])))
        conditionals))
