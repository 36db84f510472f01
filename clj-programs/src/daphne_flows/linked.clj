(ns daphne-flows.linked
  "This namespace is a normal density of several numbers by values of its logarithm.

  Each factor of log f = f_1 + f_2 + ... is a parabola in the numbers that it reads.
  With steps h around a point m,

      A_ii = (f(m + h_i) + f(m - h_i) - 2 f(m)) / h_i^2,
      A_ij = (f(m + h_i + h_j) - f(m + h_i) - f(m + h_j) + f(m)) / (h_i h_j),
      g_i  = (f(m + h_i) - f(m - h_i)) / (2 h_i)

  say all of it: the precision is -A and the mean m - A^-1 g. The first steps are long,
  where values are large numbers with roundings to match; the next are two deviations
  around the mean that these say. With U U' = -A, U upper triangular, U' (v - mean) are
  independent standard normals: number i of them is a sum over v_1 ... v_i, which is the
  density of v_i given those before it."
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

(defn- later-sum
  "Sum of U_ik v_k over places k after j."
  ^double [^doubles upper ^long i ^long j ^doubles v]
  (let [n (alength v)]
    (loop [k (inc j), sum 0.0]
      (if (< k n)
        (recur (inc k) (+ sum (* (aget upper (+ (* i n) k)) (aget v k))))
        sum))))

(defn- earlier-sum
  "Sum of U_ki v_k over places k before i."
  ^double [^doubles upper ^long i ^doubles v]
  (let [n (alength v)]
    (loop [k 0, sum 0.0]
      (if (< k i)
        (recur (inc k) (+ sum (* (aget upper (+ (* k n) i)) (aget v k))))
        sum))))

(defn- own
  "U_ii."
  ^double [^doubles upper ^long i ^long n]
  (aget upper (+ (* i n) i)))

(defn- root
  "U of a precision U U', row by row; nil where it is none."
  [^doubles bend n]
  (let [n (long n)
        upper (double-array (* n n))
        row (double-array n)]
    (loop [j (dec n)]
      (if (neg? j)
        upper
        (do
          (dotimes [k n]
            (aset row k (aget upper (+ (* j n) k))))
          (let [pivot (Math/sqrt (- (aget bend (+ (* j n) j)) (later-sum upper j j row)))]
            (when (and (Double/isFinite pivot) (pos? pivot))
              (dotimes [i j]
                (aset upper (+ (* i n) j)
                      (/ (- (aget bend (+ (* j n) i)) (later-sum upper i j row)) pivot)))
              (aset upper (+ (* j n) j) pivot)
              (recur (dec j)))))))))

(defn- residual
  "U' v."
  ^doubles [^doubles upper ^doubles v]
  (let [n (alength v)]
    (amap v i _ (+ (* (own upper i n) (aget v i)) (earlier-sum upper i v)))))

(defn- from-residual
  "v with U' v = e, from the first place to the last."
  ^doubles [^doubles upper ^doubles e]
  (let [n (alength e), v (double-array n)]
    (dotimes [i n]
      (aset v i (/ (- (aget e i) (earlier-sum upper i v)) (own upper i n))))
    v))

(defn- solved
  "v with U U' v = right."
  ^doubles [^doubles upper ^doubles right]
  (let [n (alength right), w (double-array n)]
    (dotimes [k n]
      (let [i (- n 1 k)]
        (aset w i (/ (- (aget right i) (later-sum upper i i w)) (own upper i n)))))
    (from-residual upper w)))

(defn- plus ^doubles [^doubles a ^doubles b]
  (amap a i _ (+ (aget a i) (aget b i))))

(defn- around
  "{:mean :upper :steps}, as the factors say around a point; nil where they say none."
  [factors ^doubles centre ^doubles steps]
  (let [n (alength centre)
        slope (double-array n)
        bend (double-array (* n n))]
    (doseq [factor factors]
      (add-parabola factor centre steps slope bend))
    (when-let [upper (root bend n)]
      (let [mean (plus centre (solved upper slope))]
        (when (every? #(Double/isFinite %) mean)
          {:mean mean
           :upper upper
           :steps (double-array (map #(/ deviations (Math/sqrt (aget bend (+ (* % n) %))))
                                     (range n)))})))))

(defn- unit
  "Independent standard normals."
  [n]
  (let [upper (double-array (* n n))]
    (dotimes [i n] (aset upper (+ (* i n) i) 1.0))
    {:mean (double-array n) :upper upper}))

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
  [{:keys [mean upper]} base]
  (vec (plus mean (from-residual upper (double-array base)))))

(defn log-densities
  "The log density of each number given those before it."
  [{:keys [^doubles mean upper]} values]
  (let [n (alength mean)]
    (map-indexed (fn [i e] (- (Math/log (own upper i n)) (* 0.5 (double e) (double e))
                              half-log-two-pi))
                 (residual upper (double-array (map - values mean))))))
