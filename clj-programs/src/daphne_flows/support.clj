(ns daphne-flows.support
  "This namespace maps free coordinates on the real line to natural values.

      real                x = f                 log|det dx/df| = 0
      positive            x = exp f             f
      interval (a, b)     x = a + (b - a) s(f)  log(b - a) + log s(f) + log s(-f)
      simplex of n        stick breaking of n - 1 coordinates
      positive definite   X = L L', L lower triangular row by row, its diagonal exp f

  with s the logistic function. `to-value` and `to-free` undo each other; both return
  [values log-det], values flat, the log-determinant that of the map to values."
  (:require [daphne-flows.problem :refer [fail]]))

(set! *warn-on-reflection* true)

(defn- log-logistic [f]
  (let [f (double f)]
    (- (min f 0.0) (Math/log1p (Math/exp (- (Math/abs f)))))))

(defn- logistic [f] (Math/exp (log-logistic f)))

(defn- interval-to-value [[f] [low high]]
  [[(+ low (* (- high low) (logistic f)))]
   (+ (Math/log (- high low)) (log-logistic f) (log-logistic (- f)))])

(defn- interval-to-free [[x] [low high]]
  (let [unit (/ (- x low) (double (- high low)))
        f (- (Math/log unit) (Math/log1p (- unit)))]
    [[f] (+ (Math/log (- high low)) (Math/log unit) (Math/log1p (- unit)))]))

(defn- break-stick
  "Coordinate k of m takes the part s(f - log(m - k)) of the stick that is left."
  [free _]
  (let [m (count free)]
    (loop [k 0, left 1.0, values [], log-det 0.0]
      (if (= k m)
        [(conj values left) log-det]
        (let [shifted (- (free k) (Math/log (- m k)))
              value (* left (logistic shifted))]
          (recur (inc k) (* left (logistic (- shifted))) (conj values value)
                 (+ log-det (Math/log left)
                    (log-logistic shifted) (log-logistic (- shifted)))))))))

(defn- unbreak-stick [values _]
  (let [m (dec (count values))
        lefts (vec (reductions - 1.0 (butlast values)))
        free (mapv (fn [k] (+ (Math/log (values k)) (- (Math/log (lefts (inc k))))
                              (Math/log (- m k))))
                   (range m))]
    [free (second (break-stick free nil))]))

(defn- order-of [size] (long (Math/round (Math/sqrt size))))

(defn- matrix-log-det
  "p log 2 + sum_i (p - i + 2) f_ii over i = 1 ... p."
  [diagonal]
  (let [p (count diagonal)]
    (apply + (* p (Math/log 2.0)) (map-indexed (fn [i f] (* (+ (- p i) 1) f)) diagonal))))

(defn- matrix-to-value [free _]
  (let [p (quot (dec (order-of (inc (* 8 (count free))))) 2)
        entry (fn [i j] (free (+ (quot (* i (inc i)) 2) j)))
        factor (fn [i j] (cond (< i j) 0.0
                               (= i j) (Math/exp (entry i i))
                               :else (entry i j)))]
    [(vec (for [i (range p), j (range p)]
            (reduce + (map #(* (factor i %) (factor j %)) (range p)))))
     (matrix-log-det (map #(entry % %) (range p)))]))

(defn- cholesky
  "Lower factor of a symmetric p by p matrix, {[i j] value}; NaN where there is none."
  [values p]
  (reduce (fn [factor [i j]]
            (let [rest (- (values (+ (* i p) j))
                          (reduce + (map #(* (factor [i %]) (factor [j %])) (range j))))]
              (assoc factor [i j]
                     (if (= i j) (Math/sqrt rest) (/ rest (factor [j j]))))))
          {} (for [i (range p), j (range (inc i))] [i j])))

(defn- matrix-to-free [values _]
  (let [p (order-of (count values))
        factor (cholesky values p)
        free (vec (for [i (range p), j (range (inc i))]
                    (if (= i j) (Math/log (factor [i i])) (factor [i j]))))]
    [free (matrix-log-det (map #(Math/log (factor [% %])) (range p)))]))

(def ^:private real
  {:to-value (fn [free _] [free 0.0]) :to-free (fn [value _] [value 0.0])})

(def ^:private positive
  {:to-value (fn [free _] [(mapv #(Math/exp %) free) (reduce + free)])
   :to-free (fn [value _] (let [free (mapv #(Math/log %) value)]
                            [free (reduce + free)]))})

(def ^:private interval {:to-value interval-to-value :to-free interval-to-free})

(def ^:private bijections
  {"real" real
   "real vector" real
   "positive" positive
   "nonnegative" positive
   "unit interval" interval
   "interval" interval
   "simplex" {:to-value break-stick :to-free unbreak-stick}
   "positive definite matrix" {:to-value matrix-to-value :to-free matrix-to-free}})

(defn- bounds-of
  "The bounds of an interval; `bounds` may be a function of the earlier latents."
  [{:keys [support bounds]} latents where]
  (cond (= support "unit interval") [0.0 1.0]
        (not= support "interval") nil
        (fn? bounds) (bounds latents)
        (vector? bounds) bounds
        :else (fail where "the bounds of this latent depend on other latents"
                    ":bounds [low high], or a function of a map of the earlier latents"
                    "none")))

(defn- bijection [{:keys [support]} where]
  (or (bijections support)
      (fail where "the support is not known"
            (str "one of " (sort (keys bijections))) (pr-str support))))

(defn to-value
  "Flat natural values of free coordinates, with log|det d value / d free|.

  `latents` are the values of latents that come earlier in the layout."
  [support free latents where]
  ((:to-value (bijection support where)) free (bounds-of support latents where)))

(defn- freed [support value latents where]
  ((:to-free (bijection support where)) value (bounds-of support latents where)))

(defn inside?
  "Whether flat natural values have free coordinates that are finite."
  [support value latents where]
  (every? #(Double/isFinite %) (first (freed support value latents where))))

(defn to-free
  "Free coordinates of flat natural values, with log|det d value / d free|."
  [support value latents where]
  (if (inside? support value latents where)
    (freed support value latents where)
    (fail where "the value is outside of its support" (:support support)
          (pr-str value))))
