(ns daphne-flows.mixture-test
  "This namespace tests mixtures of normals, far out as well."
  (:require [clojure.test :refer [are deftest is testing]]
            [daphne-flows.mixture :as mixture]))

(defn- near? [a b] (<= (Math/abs (- a b)) (* 1e-12 (Math/abs b))))

(deftest the-normal-distribution-function-keeps-its-digits-in-both-tails
  ;; By 30 digits of arithmetic (mpmath).
  (are [x p] (near? (mixture/normal-cdf x) p)
    -37.0 5.7255712225245768e-300
    -20.0 2.7536241186062337e-89
    -5.5 1.8989562465887719e-8
    -2.9 0.0018658133003840385
    -2.8 0.0025551303304279342
    -1.0 0.15865525393145705
    -0.1 0.46017216272297102
    0.0 0.5
    0.3 0.61791142218895263
    2.5 0.99379033467422386))

(defn- mixture [logits centres scales]
  (mixture/mixture (double-array logits) (double-array centres) (double-array scales)))

(deftest the-quantile-of-one-normal-is-scale-and-shift
  (doseq [e [-30.0 -7.0 -0.5 0.0 2.0 8.0]]
    (is (near? (mixture/quantile (mixture [4.0] [100.0] [0.25]) e)
               (+ 100.0 (* 0.25 e))))))

(deftest quantiles-are-where-the-distribution-function-says
  (let [both (mixture [0.0 (Math/log 3.0)] [-50.0 50.0] [0.1 2.0])
        ;; A quarter of the mass is at the left: e, and how far into which component.
        left (fn [e] (/ (+ (mixture/quantile both e) 50.0) 0.1))
        right (fn [e] (/ (- (mixture/quantile both e) 50.0) 2.0))]
    (doseq [e [-20.0 -8.0 -1.0]]
      (testing e
        (is (near? (* 0.25 (mixture/normal-cdf (left e))) (mixture/normal-cdf e)))))
    (doseq [e [1.0 8.0 20.0]]
      (testing e
        (is (near? (* 0.75 (mixture/normal-cdf (- (right e)))) (mixture/normal-cdf (- e))))))))

(deftest densities-integrate-to-one
  (let [some (mixture [0.3 -1.0 2.0] [-1.0 0.0 2.0] [0.5 1.5 0.2])
        step 1e-3]
    (is (near? (* step (reduce + (map #(Math/exp (mixture/log-density some %))
                                      (range -15.0 15.0 step))))
               1.0))))
