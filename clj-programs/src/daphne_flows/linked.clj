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

(defn- moved
  "The numbers that a factor reads, some of them moved by a number of steps."
  [numbers steps moves]
  (reduce (fn [v [k s]] (assoc v k (+ (double (v k)) (* (double s) (double (steps k))))))
          numbers moves))

(defn- add-parabola
  "Adds the gradient, and the curvature turned round, of a factor around a point.

  `slope` has a number for each place, `bend` n of them; of each pair only that of the
  later place with the earlier one is written."
  [{:keys [f reads]} ^doubles centre ^doubles steps ^doubles slope ^doubles bend]
  (let [n (alength centre)
        own (mapv #(aget centre %) reads)
        size (mapv #(aget steps %) reads)
        at (fn [& moves] (double (f (moved own size moves))))
        middle (double (at))
        up (mapv #(at [% 1.0]) (range (count reads)))
        down (mapv #(at [% -1.0]) (range (count reads)))
        add (fn [^doubles where place value]
              (aset where (int place) (+ (aget where (int place)) (double value))))]
    (dotimes [k (count reads)]
      (let [i (long (reads k)), h (double (size k)), u (double (up k)), d (double (down k))]
        (add slope i (/ (- u d) (* 2.0 h)))
        (add bend (+ (* i n) i) (/ (- (* 2.0 middle) u d) (* h h)))
        (dotimes [l k]
          (let [j (long (reads l)), both (double (at [k 1.0] [l 1.0]))]
            (add bend (+ (* i n) j)
                 (/ (- (+ u (double (up l))) both middle) (* h (double (size l)))))))))))

(defn- root
  "L of a precision, its places from the last to the first, row by row; nil where it
  is none."
  [^doubles bend n]
  (let [n (long n)
        lower (double-array (* n n))]
    (loop [a 0]
      (if (= a n)
        lower
        (let [i (- n 1 a)]
          (dotimes [b (inc a)]
            (let [j (- n 1 b) ; from the end, so j >= i
                  rest (double (loop [k 0, left (aget bend (+ (* j n) i))]
                                 (if (= k b)
                                   left
                                   (recur (inc k) (- left (* (aget lower (+ (* a n) k))
                                                             (aget lower (+ (* b n) k))))))))]
              (aset lower (+ (* a n) b)
                    (if (= a b) (Math/sqrt rest) (/ rest (aget lower (+ (* b n) b)))))))
          (let [own (aget lower (+ (* a n) a))]
            (when (and (Double/isFinite own) (pos? own))
              (recur (inc a)))))))))

(defn- solved
  "v with L' v = right, places from the first to the last."
  ^doubles [^doubles lower ^doubles right]
  (let [n (alength right)
        v (double-array n)]
    (dotimes [i n]
      (let [a (- n 1 i)]
        (aset v i (/ (double (loop [k 0, left (aget right i)]
                               (if (= k i)
                                 left
                                 (recur (inc k) (- left (* (aget lower (+ (* (- n 1 k) n) a))
                                                           (aget v k)))))))
                     (aget lower (+ (* a n) a))))))
    v))

(defn- times-transposed
  "L' v."
  ^doubles [^doubles lower ^doubles v]
  (let [n (alength v)
        found (double-array n)]
    (dotimes [i n]
      (let [a (- n 1 i)]
        (aset found i (double (loop [k 0, sum 0.0]
                                (if (> k i)
                                  sum
                                  (recur (inc k) (+ sum (* (aget lower (+ (* (- n 1 k) n) a))
                                                           (aget v k))))))))))
    found))

(defn- forward
  "w with L w = right, places from the last to the first."
  ^doubles [^doubles lower ^doubles right]
  (let [n (alength right)
        w (double-array n)]
    (dotimes [a n]
      (let [i (- n 1 a)]
        (aset w i (/ (double (loop [b 0, left (aget right i)]
                               (if (= b a)
                                 left
                                 (recur (inc b) (- left (* (aget lower (+ (* a n) b))
                                                           (aget w (- n 1 b))))))))
                     (aget lower (+ (* a n) a))))))
    w))

(defn- plus ^doubles [^doubles a ^doubles b]
  (amap a i _ (+ (aget a i) (aget b i))))

(defn- around
  "{:mean :lower :steps}, as the factors say around a point; nil where they say none."
  [factors ^doubles centre ^doubles steps]
  (let [n (alength centre)
        slope (double-array n)
        bend (double-array (* n n))]
    (doseq [factor factors]
      (add-parabola factor centre steps slope bend))
    (when-let [lower (root bend n)]
      (let [mean (plus centre (solved lower (forward lower slope)))]
        (when (every? #(Double/isFinite %) mean)
          {:mean mean
           :lower lower
           :steps (double-array (map #(/ deviations (Math/sqrt (aget bend (+ (* % n) %))))
                                     (range n)))})))))

(defn- unit
  "Independent standard normals."
  [n]
  (let [lower (double-array (* n n))]
    (dotimes [i n] (aset lower (+ (* i n) i) 1.0))
    {:mean (double-array n) :lower lower}))

(defn fitted
  "The density of `n` numbers that is the product of factors.

  A factor is {:f log-density :reads places}, its function one of a vector of the numbers
  at these places. Where they have no meaning the density is that of independent standard
  normals."
  [factors n]
  (let [zero (double-array n)]
    (loop [found (some #(around factors zero (double-array n %)) first-steps)
           left looks]
      (let [again (when (and found (pos? left))
                    (around factors (:mean found) (:steps found)))]
        (cond (nil? again)
              (or found (unit n))
              (every? true? (map #(<= (Math/abs (- (double %1) (double %2))) (double %3))
                                 (:mean again) (:mean found) (:steps found)))
              again
              :else (recur again (dec left)))))))

(defn from-base
  "The numbers of standard normal points."
  [{:keys [mean lower]} base]
  (vec (plus mean (solved lower (double-array base)))))

(defn log-densities
  "The log density of each number given those before it."
  [{:keys [^doubles mean ^doubles lower]} values]
  (let [n (alength mean)
        apart (double-array (map - values mean))]
    (map-indexed (fn [i e]
                   (let [a (- n 1 (long i)), e (double e)]
                     (- (Math/log (aget lower (+ (* a n) a))) (* 0.5 e e) half-log-two-pi)))
                 (times-transposed lower apart))))
