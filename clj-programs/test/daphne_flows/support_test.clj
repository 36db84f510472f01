(ns daphne-flows.support-test
  "This namespace tests that the maps of supports undo each other, and determinants."
  (:require [clojure.test :refer [deftest is testing]]
            [daphne-flows.support :as support]))

(def ^:private cases
  [[{:support "real"} [0.3]]
   [{:support "positive"} [-0.7]]
   [{:support "unit interval"} [1.1]]
   [{:support "interval" :bounds [-2.0 5.0]} [-0.4]]
   [{:support "interval" :bounds (fn [latents] [0.0 (latents "a")])} [0.2]]
   [{:support "simplex"} [0.3 -1.2 0.8]]
   [{:support "positive definite matrix"} [0.2 -0.5 0.1]]])

(def ^:private latents {"a" 3.0})

(deftest maps-undo-each-other
  (doseq [[support free] cases]
    (testing support
      (let [[value log-det] (support/to-value support free latents "here")
            [again log-det-again] (support/to-free support value latents "here")]
        (is (every? #(< (Math/abs (double %)) 1e-12) (map - free again)))
        (is (< (Math/abs (double (- log-det log-det-again))) 1e-12))))))

(deftest determinants-are-those-of-differences
  (doseq [[support [f]] (filter #(= 1 (count (second %))) cases)]
    (testing support
      (let [at (fn [f] (ffirst (support/to-value support [f] latents "here")))
            slope (/ (- (at (+ f 1e-6)) (at (- f 1e-6))) 2e-6)
            [_ log-det] (support/to-value support [f] latents "here")]
        (is (< (Math/abs (- (Math/log slope) log-det)) 1e-7))))))

(deftest values-outside-are-refused
  (doseq [[support value] [[{:support "positive"} [-1.0]]
                           [{:support "unit interval"} [1.5]]
                           [{:support "simplex"} [0.7 0.7 -0.4]]
                           [{:support "elsewhere"} [1.0]]
                           [{:support "interval"} [1.0]]]]
    (is (thrown? clojure.lang.ExceptionInfo
                 (support/to-free support value {} "here")))))
