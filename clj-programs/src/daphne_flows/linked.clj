(ns daphne-flows.linked
  "This namespace is a normal density of several numbers by values of its logarithm.

  Each factor of log f = f_1 + f_2 + ... is a parabola in the numbers that it reads.
  With steps h around a point m,

      A_ii = (f(m + h_i) + f(m - h_i) - 2 f(m)) / h_i^2,
      A_ij = (f(m + h_i + h_j) - f(m + h_i) - f(m + h_j) + f(m)) / (h_i h_j),
      g_i  = (f(m + h_i) - f(m - h_i)) / (2 h_i)

  say all of it: the precision is -A and the mean m - A^-1 g. The first steps are long,
  where values are large numbers with roundings to match; the next are two deviations
  around the mean that these say. With L L' = -A, the last number first, L' (v - mean)
  are independent standard normals, of which the first is the first number's."
  (:require [daphne-flows.state-columns :refer [half-log-two-pi]]))

(set! *warn-on-reflection* true)

(def ^:private first-steps [1e3 1e8 1e13 1.0])
(def ^:private looks 4)
(def ^:private deviations 2.0)

(defn- parabola
  "[gradient hessian], maps by place and by pair of places, of a factor around `centre`.

  `f` is a function of the numbers; `reads` are the places of those that it reads."
  [{:keys [f reads]} centre steps]
  (let [at (fn [& moves] (f (reduce (fn [v [i s]] (update v i + (* s (steps i))))
                                    centre moves)))
        middle (at)
        up (into {} (for [i reads] [i (at [i 1.0])]))
        down (into {} (for [i reads] [i (at [i -1.0])]))]
    [(into {} (for [i reads] [i (/ (- (up i) (down i)) (* 2.0 (steps i)))]))
     (into {} (for [i reads, j reads :when (<= j i)]
                [[i j]
                 (if (= i j)
                   (/ (- (+ (up i) (down i)) (* 2.0 middle)) (* (steps i) (steps i)))
                   (/ (+ (- (at [i 1.0] [j 1.0]) (up i) (up j)) middle)
                      (* (steps i) (steps j))))]))]))

(defn- root
  "L of a symmetric matrix by pairs [i j] with j <= i, with places from the last to the
  first; nil where it is no precision."
  [matrix n]
  (let [entry (fn [a b] (let [i (- n 1 a), j (- n 1 b)] ; a >= b, so that i <= j
                          (double (get matrix [j i] 0.0))))]
    (reduce (fn [found [a b]]
              (let [rest (- (entry a b)
                            (double (reduce + 0.0 (map #(* (found [a %]) (found [b %]))
                                                       (range b)))))
                    value (if (= a b) (Math/sqrt rest) (/ rest (found [b b])))]
                (if (and (Double/isFinite value) (or (not= a b) (pos? value)))
                  (assoc found [a b] value)
                  (reduced nil))))
            {} (for [a (range n), b (range (inc a))] [a b]))))

(defn- solved
  "v with L' v = right, places from the first to the last."
  [lower n right]
  (reduce (fn [v i]
            (let [a (- n 1 i)
                  rest (- (right i) (reduce + 0.0 (map #(* (lower [(- n 1 %) a]) (v %))
                                                       (range i))))]
              (conj v (/ rest (lower [a a])))))
          [] (range n)))

(defn- times-transposed
  "L' v."
  [lower n v]
  (mapv (fn [i] (let [a (- n 1 i)]
                  (reduce + 0.0 (map #(* (lower [(- n 1 %) a]) (v %)) (range (inc i))))))
        (range n)))

(defn- forward
  "w with L w = right, from the last place to the first."
  [lower n right]
  (let [found (reduce (fn [w a]
                        (conj w (/ (- (right (- n 1 a))
                                      (reduce + 0.0 (map #(* (lower [a %]) (w %)) (range a))))
                                   (lower [a a]))))
                      [] (range n))]
    (mapv #(found (- n 1 %)) (range n))))

(defn- around
  "{:mean :lower}, as the factors say around a point; nil where they say none."
  [factors centre steps]
  (let [n (count centre)
        found (map #(parabola % centre steps) factors)
        slope (reduce #(merge-with + %1 (first %2)) {} found)
        bend (update-vals (reduce #(merge-with + %1 (second %2)) {} found) -)]
    (when-let [lower (root bend n)]
      (let [move (solved lower n (forward lower n (mapv #(get slope % 0.0) (range n))))
            mean (mapv + centre move)]
        (when (every? #(Double/isFinite %) mean)
          {:mean mean :lower lower
           :steps (mapv #(/ deviations (Math/sqrt (double (bend [% %])))) (range n))})))))

(defn fitted
  "The density of `n` numbers that is the product of factors, {:mean :lower}.

  A factor is {:f log-density :reads places}, its function one of all numbers. Where
  they have no meaning the density is that of independent standard normals."
  [factors n]
  (let [zero (vec (repeat n 0.0))
        start (some #(around factors zero (vec (repeat n %))) first-steps)]
    (loop [found start, left looks]
      (let [again (when (and found (pos? left))
                    (around factors (:mean found) (:steps found)))]
        (cond (nil? again)
              (or found {:mean zero
                         :lower (into {} (for [a (range n), b (range (inc a))]
                                           [[a b] (if (= a b) 1.0 0.0)]))})
              (every? true? (map #(<= (Math/abs (- (double %1) (double %2))) (double %3))
                                 (:mean again) (:mean found) (:steps found)))
              again
              :else (recur again (dec left)))))))

(defn from-base
  "The numbers of standard normal points."
  [{:keys [mean lower]} base]
  (mapv + mean (solved lower (count mean) (vec base))))

(defn log-densities
  "The log density of each number given those before it."
  [{:keys [mean lower]} values]
  (let [n (count mean)]
    (map-indexed (fn [i e] (- (Math/log (lower [(- n 1 i) (- n 1 i)]))
                              (* 0.5 e e) half-log-two-pi))
                 (times-transposed lower n (mapv - values mean)))))
