(ns daphne-flows.grid
  "This namespace is a density on the line by its values at points.

  Between points the logarithm is linear, beyond them the density falls as
  (1 + |s - end| / length)^-2: it is positive everywhere, and integral, distribution
  function and quantiles have closed forms. So what is drawn has an exact density,
  however well the points suit what they stand for.

  `fitted` finds points without derivatives, from some over all orders of magnitude on:
  around every top until its neighbours are near it in height, then where the mass is.
  A grid is {:points :values :low :high :masses}, the last cumulative, tails included."
  (:require [daphne-flows.problem :refer [fail shown]])
  (:import (java.util Arrays)))

(set! *warn-on-reflection* true)

(def ^:private start (mapv #(Math/sinh (* 0.7 %)) (range -20 21)))
(def ^:private around [-2.5 -1.0 0.0 1.0 2.5]) ; deviations from the top of a parabola
(def ^:private most-rounds 60)
(def ^:private most-tops 6)
(def ^:private near 1.0)      ; nats by which a top may be above its neighbours
(def ^:private apart 1e-12)   ; relative distance of points
(def ^:private depth 60.0)    ; nats below the largest that no value is below
(def ^:private nothing -1e30)
(def ^:private tiny 1e-6)

(defn- gap-mass
  "The integral between two neighbours, over the width between them."
  ^double [^double va ^double vb]
  (let [rise (Math/abs (- vb va))]
    (* (Math/exp (max va vb))
       (if (< rise (double tiny)) (- 1.0 (* 0.5 rise)) (/ (- (Math/expm1 (- rise))) rise)))))

(defn grid
  "The density of log values at increasing points, at least two."
  [points values]
  (let [^doubles points (double-array points)
        ^doubles values (double-array values)
        end (dec (alength points))
        best (areduce values i most ##-Inf (max most (aget values i)))
        ^doubles values (amap values i _ (max (- (aget values i) best)
                                              (- (double depth))))
        slope (fn [i j] (/ (- (aget values j) (aget values i))
                           (Math/abs (- (aget points j) (aget points i)))))
        least (/ 1.0 (- (aget points end) (aget points 0)))
        low (/ 1.0 (max least (double (slope 0 1))))
        high (/ 1.0 (max least (double (slope end (dec end)))))
        masses (double-array (+ 2 end))]
    (aset masses 0 (* low (Math/exp (aget values 0))))
    (dotimes [i end]
      (aset masses (inc i) (+ (aget masses i)
                              (* (- (aget points (inc i)) (aget points i))
                                 (gap-mass (aget values i) (aget values (inc i)))))))
    (aset masses (inc end) (+ (aget masses end) (* high (Math/exp (aget values end)))))
    (let [total (aget masses (inc end))
          log-total (Math/log total)]
      {:points points
       :values (amap values i _ (- (aget values i) log-total))
       :low low
       :high high
       :masses (amap masses i _ (/ (aget masses i) total))})))

(defn- place
  "How many numbers of an increasing array are below x."
  [^doubles sorted x]
  (let [found (Arrays/binarySearch sorted (double x))]
    (if (neg? found) (- (inc found)) found)))

(defn log-density
  "The log density at a point, in nats."
  [{:keys [^doubles points ^doubles values low high]} at]
  (let [last-point (dec (alength points))
        i (place points at)
        tail (fn [end distance length]
               (- (aget values end) (* 2.0 (Math/log1p (/ distance length)))))]
    (cond
      (zero? i) (tail 0 (- (aget points 0) at) low)
      (> i last-point) (tail last-point (- at (aget points last-point)) high)
      :else (let [a (aget points (dec i)), va (aget values (dec i))]
              (+ va (* (- (aget values i) va) (/ (- at a) (- (aget points i) a))))))))

(defn quantile
  "Where the distribution function has this value."
  [{:keys [^doubles points ^doubles values ^doubles masses low high]} share]
  (let [end (alength points)
        i (min end (long (place masses share)))
        before (if (zero? i) 0.0 (aget masses (dec i)))
        mass (- (aget masses i) before)
        part (if (pos? mass)
               (-> (/ (- share before) mass) (max (Math/ulp 0.5)) (min (- 1.0 (Math/ulp 0.5))))
               0.5)]
    (cond
      (zero? i) (- (aget points 0) (* low (- (/ 1.0 part) 1.0)))
      (= i end) (+ (aget points (dec end)) (* high (- (/ 1.0 (- 1.0 part)) 1.0)))
      :else (let [a (aget points (dec i)), width (- (aget points i) a)
                  rise (- (aget values i) (aget values (dec i)))]
              (+ a (* width (if (< (Math/abs rise) tiny)
                              part
                              (/ (Math/log1p (* part (Math/expm1 rise))) rise))))))))

(defn- by-mass
  "Quantiles of a power of the density."
  [points power n]
  (let [found (grid (keys points) (map #(* power %) (vals points)))]
    (map #(quantile found (/ (+ % 0.5) n)) (range n))))

(defn- at-top
  "Points around a top that stands between others, by the parabola through the three."
  [[[a va] [b vb] [c vc]]]
  (let [rise (/ (- vb va) (- b a))
        fall (/ (- vc vb) (- c b))
        bend (max (/ (- rise fall) (* 0.5 (- c a))) Double/MIN_NORMAL)
        top (+ (* 0.5 (+ a c)) (/ (/ (- vc va) (- c a)) bend))]
    (concat [(* 0.5 (+ a b)) (* 0.5 (+ b c))]
            (filter #(< a % c) (map #(+ top (/ % (Math/sqrt bend))) around)))))

(defn- is-top [points i]
  (let [height (double (val (points i)))]
    (and (> height (double nothing))
         (>= height (double (val (points (dec i)))))
         (>= height (double (val (points (inc i))))))))

(defn- is-steep [[[a va] [b vb] [c vc]]]
  (and (> (- vb (min va vc)) near)
       (> (- c a) (* 1e3 apart (+ 1.0 (Math/abs (double b)))))))

(defn- steep-tops
  "The highest tops, with their neighbours, that are far above one of these."
  [points]
  (let [points (vec points)]
    (->> (range 1 (dec (count points)))
         (filter #(is-top points %))
         (sort-by #(- (val (points %))))
         (take most-tops)
         (map #(subvec points (dec %) (+ 2 %)))
         (filter is-steep))))

(defn fitted
  "The grid of a log density, up to a constant; NaN is where it has no meaning.

  `f` is asked at some hundred points."
  [f where]
  (let [value (fn [s]
                (let [v (double (f s))]
                  (cond (= v ##Inf) (fail where "the model's log density is not a number"
                                          "below infinity" (shown s))
                        (Double/isNaN v) nothing
                        :else (max v nothing))))
        is-apart (fn [points s]
                   (let [gap (* apart (+ 1.0 (Math/abs (double s))))]
                     (empty? (subseq points > (- s gap) < (+ s gap)))))
        with (fn [points more]
               (reduce #(if (is-apart %1 %2) (assoc %1 %2 (value %2)) %1) points more))
        points (loop [points (with (sorted-map) start), rounds most-rounds]
                 (let [tops (steep-tops points)]
                   (if (or (empty? tops) (zero? rounds))
                     points
                     (recur (with points (mapcat at-top tops)) (dec rounds)))))]
    (when (every? #(= nothing %) (vals points))
      (fail where "the model gives no value of this latent any density" "some" "none"))
    ;; Where the mass is, and less and less so: tails are drawn from too.
    (let [points (reduce (fn [points [power n]] (with points (by-mass points power n)))
                         points [[1.0 12] [1.0 12] [(/ 1.0 3.0) 24] [(/ 1.0 9.0) 16]])]
      (grid (keys points) (vals points)))))
