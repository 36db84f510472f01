(ns daphne-flows.chain-test
  "This namespace tests that planar and radial layers are undone, and their determinants."
  (:require [clojure.test :refer [deftest is testing]]
            [daphne-flows.chain :as chain])
  (:import (java.util Random)))

(defn- normals [seed n scale]
  (let [random (Random. seed)]
    (vec (repeatedly n #(* scale (.nextGaussian random))))))

(def ^:private cases
  (for [transform ["planar" "radial"], size [1 3], scale [1.0 6.0]]
    (let [config {"transform" transform "length" 4}]
      [config (normals 1 (chain/width config size) scale) (normals 2 size 1.0)])))

(deftest chains-are-undone
  (doseq [[config numbers base] cases]
    (testing [config (count base)]
      (let [[point log-det] (chain/to-latent config numbers base)
            [again same] (chain/to-base config numbers point)
            slack (* 1e-7 (Math/exp (Math/abs (double log-det))))]
        (is (every? #(< (Math/abs (double %)) slack) (map - base again)))
        (is (< (Math/abs (double (- log-det same))) 1e-5))))))

(deftest determinants-are-those-of-differences
  (doseq [[config numbers [e & more]] cases :when (nil? more)]
    (testing config
      (let [at #(ffirst (chain/to-latent config numbers [%]))
            slope (/ (- (at (+ e 1e-5)) (at (- e 1e-5))) 2e-5)
            [_ log-det] (chain/to-latent config numbers [e])]
        (is (< (Math/abs (double (- (/ slope (Math/exp log-det)) 1.0))) 1e-5))))))
