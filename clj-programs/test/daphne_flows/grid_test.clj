(ns daphne-flows.grid-test
  "This namespace tests densities by their values at points against closed forms."
  (:require [clojure.test :refer [deftest is testing]]
            [daphne-flows.agreement-test :refer [log-normal]]
            [daphne-flows.grid :as grid]
            [daphne-flows.mixture :refer [normal-cdf]]))

(defn- normal [mean sd] #(log-normal % mean sd))

(deftest normals-of-any-place-and-width-are-found
  (doseq [[mean sd] [[0.0 1.0] [3.0 0.1] [1e5 1e-3] [-1e-4 1e-6] [0.0 1e5] [-1234.5 7.0]]]
    (testing [mean sd]
      ;; The constant is found anew.
      (let [found (grid/fitted #(+ 1000.0 ((normal mean sd) %)) "here")]
        (doseq [z [-3.0 -1.5 0.0 0.3 2.0 3.0]
                :let [x (+ mean (* sd z))]]
          (is (< (Math/abs (- (grid/log-density found x) ((normal mean sd) x)))
                 (if (< -2.5 z 2.5) 0.03 0.15))))
        (doseq [z [-2.0 0.0 1.0]]
          (is (< (Math/abs (- (/ (- (grid/quantile found (normal-cdf z)) mean) sd) z))
                 0.02)))))))

(deftest two-tops-far-apart-are-both-found
  (let [f (fn [x] (Math/log (+ (* 0.5 (Math/exp ((normal -30.0 0.1) x)))
                               (* 0.5 (Math/exp ((normal 50.0 2.0) x))))))
        found (grid/fitted f "here")]
    (doseq [x [-30.1 -30.0 48.0 50.0 53.0]]
      (is (< (Math/abs (- (grid/log-density found x) (f x))) 0.05)))))

(deftest quantiles-undo-the-integral-of-the-density-tails-included
  (let [found (grid/grid [-1.0 0.0 0.5 3.0 4.0] [-3.0 0.0 0.0 -1.0 -100.0])
        step 1e-3
        ;; The middle of each step; the tail below the first of them has a closed form.
        below (* (Math/exp (grid/log-density found -1.0)) (:low found)
                 (/ 1.0 (+ 1.0 (/ 49.0 (:low found)))))
        integral (fn [end]
                   (+ below (* step (reduce + (map #(Math/exp (grid/log-density found %))
                                                   (range (+ -50.0 (/ step 2)) end step))))))]
    (doseq [share [0.05 0.3 0.5 0.9 0.999]]
      (is (< (Math/abs (- (integral (grid/quantile found share)) share)) 1e-3)))
    (is (every? #(Double/isFinite (grid/quantile found %)) [0.0 1e-300 1.0]))))

(deftest a-latent-without-any-density-is-refused
  (doseq [nothing [##-Inf ##NaN]]
    (is (thrown-with-msg? clojure.lang.ExceptionInfo #"here: the model gives no value"
                          (grid/fitted (constantly nothing) "here"))))
  (is (thrown-with-msg? clojure.lang.ExceptionInfo #"expected below infinity"
                        (grid/fitted (constantly ##Inf) "here"))))
