(ns daphne-flows.agreement-test
  "This namespace compares the reader with values that another program computed.

  The environment variable DAPHNE_FLOWS_CASES names a folder of cases, each with an
  `artifact` and `expected.json`: base points, observed values and latents, with draws
  and log densities by the same number of Runge-Kutta steps. Its folder `earlier`
  holds artifacts of earlier versions of the format, which test themselves; `bad` holds
  damaged artifacts, `tensors` and `settings` such as are not of their kind of flow, and `trained` what
  `train` makes."
  (:require [clojure.data.json :as json]
            [clojure.java.io :as io]
            [clojure.test :refer [deftest is testing]]
            [daphne-flows.importance :as importance]
            [daphne-flows.proposal :as proposal])
  (:import (java.io File)))

(def cases (io/file (System/getenv "DAPHNE_FLOWS_CASES")))

(def ^:private tolerance 1e-10)

(defn- close? [a b]
  (let [a (flatten [a]), b (flatten [b])]
    (and (= (count a) (count b))
         (every? true? (map #(<= (Math/abs (- (double %1) (double %2)))
                                 (* tolerance (+ 1.0 (Math/abs (double %2)))))
                            a b)))))

(defn- folders [name]
  (sort (filter #(.isDirectory ^File %) (.listFiles (io/file cases name)))))

(defn- supports-of
  "Supports of the latents that the manifest leaves open: here a bound that is the value
  of another latent."
  [expected]
  (into {}
        (map (fn [[name other]]
               [name {:support "interval" :bounds (fn [latents] [0.0 (latents other)])}]))
        (expected "below")))

(defn- load-case [folder]
  (let [expected (json/read-str (slurp (io/file folder "expected.json")))]
    [(proposal/load-proposal (io/file folder "artifact")
                             {:num-steps (expected "num_steps")
                              :supports (supports-of expected)})
     expected]))

(deftest draws-and-densities-agree
  (doseq [folder (folders "good")
          :let [[proposal expected] (load-case folder)]
          row (expected "rows")
          :let [observed (row "observed")]]
    (testing (str folder)
      (let [drawn (proposal/draw-from-base proposal observed (row "base"))]
        (is (close? (:log-proposal drawn) (row "drawn_log_prob")))
        (is (close? (:nuisances drawn) (row "drawn_nuisances")))
        (doseq [[name value] (row "drawn")]
          (is (close? (get-in drawn [:sites name :value]) value)))
        (testing "and the density of the draw is that of the value"
          (let [values (update-vals (:sites drawn) :value)
                again (proposal/log-density proposal values (:nuisances drawn) observed)
                solved (if (expected "num_steps") 1e-3 1e-9)]
            (is (< (Math/abs (- (:log-proposal again) (:log-proposal drawn))) solved)))))
      (let [found (proposal/log-density proposal (row "latents") (row "nuisances")
                                        observed)]
        (is (close? (:log-proposal found) (row "log_prob")))
        (doseq [[name density] (row "log_prob_per_site")]
          (is (close? (get-in found [:sites name :log-proposal]) density)))))))

(deftest equal-seeds-give-equal-draws
  (let [[proposal expected] (load-case (first (folders "good")))
        observed (get-in expected ["rows" 0 "observed"])]
    (is (= (proposal/draw proposal observed 3) (proposal/draw proposal observed 3)))
    (is (not= (proposal/draw proposal observed 3) (proposal/draw proposal observed 4)))))

(defn- refusal
  "What is said instead of loading an artifact; nil if it is loaded."
  [folder]
  (try (proposal/load-proposal folder) nil
       (catch clojure.lang.ExceptionInfo error (ex-message error))))

(deftest damaged-artifacts-are-refused-in-one-sentence
  (doseq [^File folder (folders "bad")]
    (testing (.getName folder)
      (let [said (refusal folder)]
        (is (some? said))
        (is (not (re-find #"\n" (str said))))))))

(deftest tensors-and-settings-of-another-flow-are-named
  (doseq [[place pattern] [["tensors" #"the tensor .* does not fit|does not belong"]
                           ["settings" #"flow\.config.*(not the settings|no value that)"]]
          ^File folder (folders place)]
    (testing (.getName folder)
      (is (re-find pattern (str (refusal folder)))))))

(deftest an-exact-flow-takes-no-number-of-steps
  (is (thrown-with-msg? clojure.lang.ExceptionInfo #":num-steps: this flow is exact"
                        (proposal/load-proposal
                         (io/file cases "good" "pair-autoregressive" "artifact")
                         {:num-steps 8}))))

(deftest artifacts-of-earlier-formats-give-their-golden-values
  (is (= 6 (count (folders "earlier"))))
  (doseq [^File folder (folders "earlier")]
    (testing (.getName folder)
      (is (some? (proposal/load-proposal folder))))))

(deftest another-kind-of-flow-is-refused-in-words
  (doseq [folder ["of_another_kind" "structured_gaussian"]]
    (is (re-find #"another kind of flow than this reader knows; expected autoregressive or"
                 (refusal (io/file cases "bad" folder))))))

(deftest what-a-refusal-advises-helps
  (is (re-find #"expected :log-densities, or an artifact of train --integrate none; got "
               (refusal (io/file cases "trained" "auto"))))
  (let [proposal (proposal/load-proposal (io/file cases "trained" "none"))
        {:keys [sites]} (proposal/draw proposal {"x0" -9.7 "x1" 0.85} 1)]
    (is (= 6 (count sites)))))

(deftest heads-of-discrete-latents-are-refused-in-words
  (is (thrown-with-msg? clojure.lang.ExceptionInfo
                        #"have learned heads, which this reader does not draw"
                        (proposal/load-proposal (io/file cases "bad" "with_heads")))))

(defn log-normal [x mean sd]
  (let [z (/ (- x mean) sd)]
    (- (* -0.5 z z) (Math/log sd) (* 0.5 (Math/log (* 2.0 Math/PI))))))

(deftest importance-sampling-finds-the-evidence-of-a-gaussian-model
  (doseq [kind ["cnf" "autoregressive" "finite"]]
    (testing kind
      (let [[proposal expected] (load-case (io/file cases "good" (str "pair-" kind)))
            log-joint (fn [{a "sample1", b "sample2"}]
                        (+ (log-normal a 1.0 2.0) (log-normal b (* 2.0 a) 1.0)
                           (log-normal 0.5 a 1.0) (log-normal 1.5 b 0.5)))
            n 2000
            {:keys [log-evidence ess particles] :as found}
            (importance/importance-sample proposal log-joint
                                          {"observe3" 0.5 "observe4" 1.5} n 1)
            error (Math/sqrt (- (/ 1.0 ess) (/ 1.0 n)))
            mean (importance/posterior-mean found #(% "sample1"))]
        (is (= n (count particles)))
        (is (< 50 ess n))
        (is (< (Math/abs (- log-evidence (expected "log_evidence"))) (* 5.0 error)))
        (is (< (Math/abs (- mean (expected "posterior_mean"))) (* 5.0 error)))))))

(deftest wrong-values-are-refused
  (let [[proposal _] (load-case (io/file cases "good" "pair-cnf"))
        refuses (fn [observed pattern]
                  (is (thrown-with-msg? clojure.lang.ExceptionInfo pattern
                                        (proposal/draw proposal observed 1))))]
    (refuses {"observe3" 0.5} #"no value")
    (refuses {"observe3" 0.5 "observe4" 1.5 "z" 1} #"no observed node")
    (refuses {"observe3" 0.5 "observe4" [1.5 2.0]} #"another shape")
    (refuses {"observe3" 0.5 "observe4" ##NaN} #"not a finite number")
    (is (thrown-with-msg? clojure.lang.ExceptionInfo #"wrong number of columns"
                          (proposal/log-density proposal
                                                {"sample1" 0.0 "sample2" 0.0}
                                                {"observe3" 0.5 "observe4" 1.5})))))
