(ns daphne-flows.solver
  "This namespace solves dz/dt = f(t, z) from t = 0 (base) to t = 1 (latents) or back.

  Classical Runge-Kutta of order 4 with equal steps. Back, with progress s from 0 to 1,
  time is 1 - s and the velocity -f, so that the log-determinant is always that of the
  map from start to end: the sum over the stages of their weight times the divergence."
  (:require [daphne-flows.vector-field :as field]))

(set! *warn-on-reflection* true)

(defn- moved
  "state + size * slope"
  ^doubles [^doubles state size ^doubles slope]
  (let [size (double size)
        result (aclone state)]
    (dotimes [i (alength result)]
      (aset result i (+ (aget state i) (* size (aget slope i)))))
    result))

(defn- add! [^doubles total factor ^doubles values]
  (let [factor (double factor)]
    (dotimes [i (alength total)]
      (aset total i (+ (aget total i) (* factor (aget values i)))))
    total))

(defn solve
  "Where a state ends and log|det d end / d start| per latent.

  `direction` is 1 from base to latents, -1 from latents to base."
  [network start term direction num-steps]
  (let [step (/ 1.0 (double num-steps))
        log-det (double-array (count (:blocks network)))
        stage (fn [half-steps state]
                (let [s (/ (double half-steps) (* 2.0 (double num-steps)))
                      t (if (pos? (double direction)) s (- 1.0 s))]
                  (field/evaluate network t direction term state)))]
    (loop [n 0, state start]
      (if (= n num-steps)
        {:end state :log-det log-det}
        (let [k1 (stage (* 2 n) state)
              k2 (stage (inc (* 2 n)) (moved state (* 0.5 step) (:velocity k1)))
              k3 (stage (inc (* 2 n)) (moved state (* 0.5 step) (:velocity k2)))
              k4 (stage (+ 2 (* 2 n)) (moved state step (:velocity k3)))
              change (double-array (alength ^doubles state))]
          (doseq [[weight {:keys [velocity slopes]}]
                  [[1.0 k1] [2.0 k2] [2.0 k3] [1.0 k4]]]
            (add! change weight velocity)
            (add! log-det (* weight (/ step 6.0)) (field/divergence network slopes)))
          (recur (inc n) (moved state (/ step 6.0) change)))))))
