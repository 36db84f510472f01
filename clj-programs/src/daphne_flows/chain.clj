(ns daphne-flows.chain
  "This namespace is a chain of planar or radial layers behind scale and shift,

      z_0 = shift + exp(log_scale) e,      z_k = f_k(z_{k-1}), k = 1 ... length.

  Planar: f(z) = z + u tanh(w z + b), u made such that g = 1 + w u = log(1 + e^(w u)).
  Radial: f(z) = z0 + (r + g) / (r + alpha) (z - z0), r = |z - z0|. Both ways return
  [point log-det], the log-determinant that of f.

  Reference: Rezende and Mohamed, 'Variational Inference with Normalizing Flows', ICML
  2015, section 4.1 and appendix A."
  (:require [daphne-flows.dense :refer [softplus]]
            [daphne-flows.root :as root]))

(set! *warn-on-reflection* true)

(defn- dot [a b] (reduce + (map * a b)))
(defn- along "a + t b" [a t b] (mapv (fn [x y] (+ x (* t y))) a b))

(defn- planar-parts [size numbers]
  (let [[u rest] (split-at size numbers)
        [w [b]] (split-at size rest)
        w (if (= 1 size) (map softplus w) w)
        inner (dot w u)
        gain (softplus inner)]
    {:u (along u (/ (- gain 1.0 inner) (dot w w)) w) :w w :b b :gain gain}))

(defn- planar-log-det [{:keys [gain]} t]
  (Math/log (+ gain (* (- 1.0 gain) t t))))

(defn- planar [{:keys [u w b] :as parts} point]
  (let [t (Math/tanh (+ (dot w point) b))]
    [(along point t u) (planar-log-det parts t)]))

(defn- planar-back
  "With s = w f(z), a = w z solves a + (g - 1) tanh(a + b) = s."
  [{:keys [u w b gain] :as parts} point]
  (let [s (dot w point)
        push (- gain 1.0)
        a (root/root (fn [a] (let [t (Math/tanh (+ a b))]
                               [(- (+ a (* push t)) s) (- gain (* push t t))]))
                     (- s (Math/abs (double push))) (+ s (Math/abs (double push)))
                     (- s (* push (Math/tanh (+ s b)))))
        t (Math/tanh (+ a b))]
    [(along point (- t) u) (planar-log-det parts t)]))

(defn- radial-parts [size numbers]
  (let [[centre [alpha total]] (split-at size numbers)]
    {:centre centre :alpha (softplus alpha) :total (softplus total)}))

(defn- radial-log-det [{:keys [centre alpha total]} r]
  (+ (* (dec (count centre)) (Math/log (/ (+ r total) (+ r alpha))))
     (Math/log (/ (+ (* r (+ r (* 2.0 alpha))) (* alpha total))
                  (* (+ r alpha) (+ r alpha))))))

(defn- radial [{:keys [centre alpha total] :as parts} point]
  (let [away (mapv - point centre)
        r (Math/sqrt (dot away away))]
    [(along centre (/ (+ r total) (+ r alpha)) away) (radial-log-det parts r)]))

(defn- radial-back
  "With R = |f(z) - z0|, r is the positive root of r^2 + (g - R) r - alpha R."
  [{:keys [centre alpha total] :as parts} point]
  (let [away (mapv - point centre)
        moved (Math/sqrt (dot away away))
        half (* 0.5 (- total moved))
        bent (Math/sqrt (+ (* half half) (* alpha moved)))
        ;; Of the two forms the one that adds terms of equal signs.
        r (if (pos? half) (/ (* alpha moved) (+ bent half)) (- bent half))]
    [(along centre (/ (+ r alpha) (+ r total)) away) (radial-log-det parts r)]))

(def layers
  "By the name that a manifest uses."
  {"planar" {:width #(inc (* 2 %)) :parts planar-parts :to planar :back planar-back}
   "radial" {:width #(+ 2 %) :parts radial-parts :to radial :back radial-back}})

(defn width
  "How many numbers a chain of so many columns has."
  [{:strs [transform length]} size]
  (+ (* 2 size) (* length ((get-in layers [transform :width]) size))))

(defn- split [{:strs [transform]} size numbers]
  (let [{:keys [width parts]} (layers transform)
        [shift rest] (split-at size numbers)
        [log-scale rest] (split-at size rest)]
    [shift log-scale (map #(parts size %) (partition (width size) rest))]))

(defn- through [f [point log-det] parts]
  (let [[moved more] (f parts point)]
    [moved (+ log-det more)]))

(defn to-latent
  "Where a base point goes."
  [{:strs [transform] :as config} numbers base]
  (let [[shift log-scale parts] (split config (count base) numbers)]
    (reduce #(through (get-in layers [transform :to]) %1 %2)
            [(mapv (fn [m s e] (+ m (* (Math/exp s) e))) shift log-scale base)
             (reduce + log-scale)]
            parts)))

(defn to-base
  "The base point that goes here; undoes `to-latent`."
  [{:strs [transform] :as config} numbers latent]
  (let [[shift log-scale parts] (split config (count latent) numbers)
        [point log-det] (reduce #(through (get-in layers [transform :back]) %1 %2)
                                [(vec latent) (reduce + log-scale)]
                                (reverse parts))]
    [(mapv (fn [z m s] (* (- z m) (Math/exp (- s)))) point shift log-scale) log-det]))
