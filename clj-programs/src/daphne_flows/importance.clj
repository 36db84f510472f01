(ns daphne-flows.importance
  "This namespace is importance sampling with a flow as the proposal.

  With log weights w_i = log p(z_i, x) - log q(z_i | x),

      evidence  log 1/n sum_i exp w_i        ess  (sum_i exp w_i)^2 / sum_i exp 2 w_i."
  (:require [daphne-flows.problem :refer [fail shown]]
            [daphne-flows.proposal :as proposal]))

(defn- log-sum-exp [values]
  (let [most (reduce max values)]
    (if (= most ##-Inf)
      most
      (+ most (Math/log (reduce + (map #(Math/exp (- % most)) values)))))))

(defn- log-weight [log-joint latents log-proposal]
  (let [weight (- (double (log-joint latents)) log-proposal)]
    (if (or (Double/isNaN weight) (= weight ##Inf))
      (fail "log weight" "the model's log density is not a number" "below infinity"
            (shown latents))
      weight)))

(defn importance-sample
  "`n` weighted draws of the posterior.

  `log-joint` is the model: a function of {site value} that returns
  log p(latents, observed). Returns {:particles [{site value} ...] :log-weights [...]
  :log-evidence e :ess s}; the weights are not normalised."
  [proposal log-joint observed n seed]
  (when-not (pos-int? n)
    (fail "n" "not a number of particles" "a whole number above 0" (shown n)))
  (let [draws (into [] (take n) (proposal/draws proposal observed seed))
        particles (mapv #(update-vals (:sites %) :value) draws)
        weights (mapv #(log-weight log-joint %1 (:log-proposal %2)) particles draws)
        total (log-sum-exp weights)]
    {:particles particles
     :log-weights weights
     :log-evidence (- total (Math/log n))
     :ess (if (= total ##-Inf)
            0.0
            (Math/exp (- (* 2.0 total) (log-sum-exp (map #(* 2.0 %) weights)))))}))

(defn posterior-mean
  "Self-normalised mean of a function of a particle, {site value}."
  [{:keys [particles log-weights]} f]
  (let [total (log-sum-exp log-weights)]
    (reduce + (map (fn [particle weight] (* (Math/exp (- weight total)) (f particle)))
                   particles log-weights))))
