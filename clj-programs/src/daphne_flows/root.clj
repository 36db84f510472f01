(ns daphne-flows.root
  "This namespace solves increasing equations on the line.")

(set! *warn-on-reflection* true)

(def ^:private most-steps 200)
(def ^:private halved 5) ; of so many steps one halves a bracket that stays long
(def ^:private rounding (* 4.0 (Math/ulp 1.0)))

(defn root
  "Where f is zero, to rounding; `f` of x gives [value slope], and rises from low to high.

  Newton's method from `start`, kept in the bracket by bisection."
  ^double [f low high start]
  (loop [x (double start), low (double low), high (double high), n 1]
    (let [[value slope] (f x)
          value (double value)
          step (/ value (double slope))
          low (if (neg? value) x low)
          high (if (pos? value) x high)
          tried (- x step)]
      (if (or (zero? value)
              (<= (min (Math/abs step) (- high low)) (* rounding (+ 1.0 (Math/abs x))))
              (= n most-steps))
        x
        (recur (if (and (< low tried high) (pos? (rem n halved)))
                 tried
                 (* 0.5 (+ low high)))
               low high (inc n))))))
