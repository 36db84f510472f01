(ns daphne-flows.solver
  "This namespace solves dz/dt = f(t, z) from t = 0 (base) to t = 1 (latents) or back.

  Classical Runge-Kutta of order 4 in N steps that end at 1 - (1 - n / N)^1.3, shorter
  towards the latents. Back, the times run the other way and the velocity is -f, so that
  the log-determinant is always that of the map from start to end.

  It is found by Simpson's rule over the ends and midpoints of the steps, with one
  divergence each: where two stages meet, at the mean of their slopes."
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

(def ^:private grade 1.3)

(defn- step-end [n num-steps]
  (- 1.0 (Math/pow (- 1.0 (/ (double n) (double num-steps))) (double grade))))

(defn- mean
  "Slopes of two stages averaged, the right ones by `share`."
  [left right share]
  (mapv (fn [^doubles a ^doubles b]
          (let [both (double-array (alength a))]
            (add! both (- 1.0 (double share)) a)
            (add! both share b)))
        left right))

(defn solve
  "Where a state ends and log|det d end / d start| per latent.

  `direction` is 1 from base to latents, -1 from latents to base."
  [network start term direction num-steps]
  (let [log-det (double-array (count (:blocks network)))
        end (fn [n] (step-end (if (pos? (double direction)) n (- num-steps n))
                              num-steps))
        stage (fn [t state] (field/evaluate network t direction term state))
        add-trace! (fn [weight slopes]
                     (add! log-det weight (field/divergence network slopes)))]
    (loop [n 0, state start, held nil, width-before 0.0]
      (if (= n num-steps)
        (do (add-trace! (/ width-before 6.0) held)
            {:end state :log-det log-det})
        (let [from (double (end n))
              to (double (end (inc n)))
              middle (/ (+ from to) 2.0)
              width (Math/abs (- to from))
              both-widths (+ (double width-before) width)
              k1 (stage from state)
              k2 (stage middle (moved state (* 0.5 width) (:velocity k1)))
              k3 (stage middle (moved state (* 0.5 width) (:velocity k2)))
              k4 (stage to (moved state width (:velocity k3)))
              change (double-array (alength ^doubles state))]
          (doseq [[weight {:keys [velocity]}] [[1.0 k1] [2.0 k2] [2.0 k3] [1.0 k4]]]
            (add! change weight velocity))
          (add-trace! (/ both-widths 6.0)
                      (if held
                        (mean held (:slopes k1) (/ width both-widths))
                        (:slopes k1)))
          (add-trace! (/ width 1.5) (mean (:slopes k2) (:slopes k3) 0.5))
          (recur (inc n) (moved state (/ width 6.0) change) (:slopes k4) width))))))
