(ns daphne-flows.mixture
  "This namespace is a mixture of normals on the line.

      F(r) = sum_k w_k Phi((r - m_k) / s_k)

  A standard normal e becomes F^-1(Phi(e)). Of F and 1 - F the small one is compared, on
  a logarithmic scale, so that tails keep their digits. A mixture is {:log-weights
  :centres :scales}."
  (:require [daphne-flows.root :as root]
            [daphne-flows.state-columns :refer [half-log-two-pi]]))

(set! *warn-on-reflection* true)

(def ^:private fraction-from 2.0)
(def ^:private fraction-depth 60)

(defn- erf-series
  "2 / sqrt(pi) e^(-x^2) sum_n 2^n x^(2n + 1) / (1 3 ... (2n + 1))"
  ^double [^double x]
  (loop [n 0, term x, sum 0.0]
    (let [more (+ sum term)]
      (if (= more sum)
        (/ (* 2.0 (Math/exp (- (* x x))) sum) (Math/sqrt Math/PI))
        (recur (inc n) (/ (* 2.0 x x term) (+ (* 2.0 n) 3.0)) more)))))

(defn- erfc-fraction
  "e^(-x^2) / sqrt(pi) / (x + (1/2) / (x + (2/2) / (x + (3/2) / ...)))"
  ^double [^double x]
  (loop [k (long fraction-depth), below x]
    (if (zero? k)
      (/ (Math/exp (- (* x x))) (* below (Math/sqrt Math/PI)))
      (recur (dec k) (+ x (/ (* 0.5 k) below))))))

(defn normal-cdf
  "Phi(x), to many digits however small it is.

  Abramowitz and Stegun, 7.1.6 and 7.1.14."
  ^double [^double x]
  (let [z (/ (Math/abs x) (Math/sqrt 2.0))
        tail (* 0.5 (if (< z (double fraction-from))
                      (- 1.0 (erf-series z))
                      (erfc-fraction z)))]
    (if (pos? x) (- 1.0 tail) tail)))

(defn- log-sum-exp ^double [^doubles values]
  (let [most (areduce values k most ##-Inf (max most (aget values k)))]
    (+ most (Math/log (areduce values k sum 0.0
                               (+ sum (Math/exp (- (aget values k) most))))))))

(defn mixture
  "The mixture of unnormalised log weights."
  [^doubles logits centres scales]
  (let [total (log-sum-exp logits)]
    {:log-weights (amap logits k _ (- (aget logits k) total))
     :centres centres
     :scales scales}))

(defn log-density
  "The log density at r, in nats."
  ^double [{:keys [^doubles log-weights ^doubles centres ^doubles scales]} ^double r]
  (- (log-sum-exp
      (amap log-weights k _
            (let [unit (/ (- r (aget centres k)) (aget scales k))]
              (- (aget log-weights k) (Math/log (aget scales k)) (* 0.5 unit unit)))))
     (double half-log-two-pi)))

(defn- tail
  "F(r) where `side` is 1, 1 - F(r) where it is -1."
  ^double [{:keys [^doubles log-weights ^doubles centres ^doubles scales]} ^double r
           ^double side]
  (areduce log-weights k sum 0.0
           (+ sum (* (Math/exp (aget log-weights k))
                     (normal-cdf (* side (/ (- r (aget centres k))
                                            (aget scales k))))))))

(defn quantile
  "Where the monotone map carries a standard normal point.

  It lies between the least and the largest of what single components would give."
  ^double [{:keys [^doubles log-weights ^doubles centres ^doubles scales] :as mixture}
           ^double e]
  (let [side (if (pos? e) -1.0 1.0)
        wanted (Math/log (normal-cdf (* side e)))
        ^doubles own (amap centres k _ (+ (aget centres k) (* (aget scales k) e)))]
    (root/root (fn [r]
                 (let [r (double r), found (tail mixture r side)]
                   [(* side (- (Math/log found) wanted))
                    (/ (Math/exp (log-density mixture r)) found)]))
               (areduce own k low ##Inf (min low (aget own k)))
               (areduce own k high ##-Inf (max high (aget own k)))
               (areduce own k mean 0.0
                        (+ mean (* (Math/exp (aget log-weights k)) (aget own k)))))))
