(ns daphne-flows.integrated-test
  "This namespace tests latents that are drawn beside a flow from the model's densities.

  The case `trained/groups` is a flow of two latents of six, with answers by quadrature."
  (:require [clojure.data.json :as json]
            [clojure.java.io :as io]
            [clojure.test :refer [deftest is testing]]
            [daphne-flows.agreement-test :refer [cases log-normal]]
            [daphne-flows.importance :as importance]
            [daphne-flows.integrated :as integrated]
            [daphne-flows.linked :as linked]
            [daphne-flows.proposal :as proposal]))

(defn- log-gamma-density [x shape rate]
  ;; Shapes are 2, so that the constant is that of Gamma(2) = 1.
  (if (pos? x)
    (- (+ (* shape (Math/log rate)) (* (dec shape) (Math/log x))) (* rate x))
    ##-Inf))

(defn- groups
  "The log densities of the program that `expected` names the nodes of."
  [{:strs [mu tau a b c d x y]}]
  {mu (fn [v] (log-normal (v mu) 0.0 2.0))
   tau (fn [v] (log-gamma-density (v tau) 2.0 2.0))
   a (fn [v] (log-normal (v a) (v mu) (v tau)))
   b (fn [v] (log-gamma-density (v b) 2.0 (Math/exp (v mu))))
   c (fn [v] (log-normal (v c) (* (v a) (v b)) 1.0))
   d (fn [v] (log-normal (v d) (v c) (v tau)))
   x (fn [v] (log-normal (v x) (v a) 0.5))
   y (fn [v] (log-normal (v y) (v b) 0.3))})

(def ^:private groups-artifact (io/file cases "trained" "groups" "artifact"))

(defn- groups-expected []
  (json/read-str (slurp (io/file cases "trained" "groups" "expected.json"))))

(deftest latents-beside-the-flow-are-drawn-from-the-model
  (let [{names "names" :as expected} (groups-expected)
        densities (groups names)
        proposal (proposal/load-proposal groups-artifact {:log-densities densities})
        data {"x" 0.4 "y" 1.1}
        log-joint (proposal/log-joint proposal data)
        n 1000
        {:keys [log-evidence ess] :as found}
        (importance/importance-sample proposal log-joint data n 1)
        error (Math/sqrt (- (/ 1.0 ess) (/ 1.0 n)))
        mean-of-d (importance/posterior-mean found #(% (names "d")))
        sd-of-d (Math/sqrt (importance/posterior-mean
                            found #(Math/pow (- (% (names "d")) mean-of-d) 2.0)))]
    (testing "so that weights are those of all latents"
      (is (< 200 ess n))
      (is (< (Math/abs (- log-evidence (expected "log_evidence"))) (* 5.0 error)))
      (is (< (Math/abs (- mean-of-d (expected "mean_of_d")))
             (/ (* 5.0 sd-of-d) (Math/sqrt ess)))))
    (testing "from nearly their conditionals"
      (doseq [{:keys [sites]} (take 20 (proposal/draws proposal data 2))
              :let [[mu tau a b c d] (map #(:value (sites (names %)))
                                          ["mu" "tau" "a" "b" "c" "d"])
                    is-near (fn [name exact]
                              (is (< (Math/abs (- (:log-proposal (sites (names name))) exact))
                                     0.2)))]]
        (is-near "c" (log-normal c (* a b) 1.0))
        (is-near "d" (log-normal d c tau))
        (let [log-factors #(+ (log-gamma-density % 2.0 (Math/exp mu))
                              (log-normal 1.1 % 0.3))
              total (* 1e-3 (reduce + (map #(Math/exp (log-factors %))
                                           (range 5e-4 5.0 1e-3))))]
          (is-near "b" (- (log-factors b) (Math/log total))))))
    (testing "each from a number of its own"
      (is (thrown-with-msg? clojure.lang.ExceptionInfo
                            #"base: wrong number of columns; expected 6; got 2"
                            (proposal/draw-from-base proposal data [0.1 0.2]))))
    (testing "and the density of a draw is that of its values"
      (doseq [drawn (take 5 (proposal/draws proposal data 3))
              :let [values (update-vals (:sites drawn) :value)
                    again (proposal/log-density proposal values data)]]
        (is (< (Math/abs (- (:log-proposal again) (:log-proposal drawn))) 1e-6))))))

;; --------------------------------------------- normal together

(defn- linked-densities
  "The log densities of the program of the case `trained/linked`."
  [{:strs [s t m a b c d r u x y z]}]
  {s (fn [v] (log-gamma-density (v s) 2.0 2.0))
   t (fn [v] (- (log-gamma-density (v t) 3.0 1.0) (Math/log 2.0)))
   m (fn [v] (log-normal (v m) 0.0 2.0))
   a (fn [v] (log-normal (v a) (v m) (v s)))
   b (fn [v] (log-normal (v b) (v a) (v t)))
   c (fn [v] (log-normal (v c) 0.0 (v s)))
   d (fn [v] (log-normal (v d) (v c) (v t)))
   r (fn [v] (log-gamma-density (v r) 2.0 (v t)))
   u (fn [v] (log-normal (v u) (Math/tanh (v b)) (v s)))
   x (fn [v] (log-normal (v x) (+ (v a) (* 2.0 (v b))) 0.5))
   y (fn [v] (log-normal (v y) (- (v c) (v d)) (* 1e-3 (v t))))
   z (fn [v] (- (* (v z) (Math/log (v r))) (v r)))})

(deftest latents-that-are-normal-together-are-drawn-as-torch-draws-them
  (let [folder (io/file cases "trained" "linked")
        {:strs [names rows]} (json/read-str (slurp (io/file folder "expected.json")))
        loaded (proposal/load-proposal (io/file folder "artifact")
                                       {:log-densities (linked-densities names)})
        of-grids #{(names "r") (names "u")}
        near (fn [limit found exact]
               (is (< (Math/abs (- (double found) (double exact)))
                      (* limit (+ 1.0 (Math/abs (double exact)))))))]
    (is (= 6 (count rows)))
    (doseq [{:strs [base observed drawn log_proposal]} rows
            :let [found (proposal/draw-from-base loaded observed base)
                  again (proposal/log-density loaded (update-vals (:sites found) :value)
                                              observed)]]
      (doseq [[name value] drawn
              :when (not (of-grids name))]
        (near 1e-6 (get-in found [:sites name :value]) value)
        (near 1e-4 (get-in found [:sites name :log-proposal]) (log_proposal name)))
      (doseq [[name {:keys [log-proposal]}] (:sites found)]
        (near 1e-4 (get-in again [:sites name :log-proposal]) log-proposal)))))

(deftest factors-without-a-meaning-leave-standard-normals
  (let [found (linked/fitted [{:f (constantly ##NaN) :reads [0 1]}] 2)]
    (is (= [0.3 -1.2] (linked/from-base found [0.3 -1.2])))
    (is (every? true? (map #(< (Math/abs (- (double %1) (double %2))) 1e-12)
                           (linked/log-densities found [0.3 -1.2])
                           [(log-normal 0.3 0.0 1.0) (log-normal -1.2 0.0 1.0)])))))

(deftest log-densities-that-do-not-fit-the-model-are-refused
  (let [{names "names"} (groups-expected)
        densities (groups names)
        refuses (fn [pattern folder options]
                  (is (thrown-with-msg? clojure.lang.ExceptionInfo pattern
                                        (proposal/load-proposal folder options))))]
    (refuses #":log-densities, or an artifact" groups-artifact {})
    (refuses #"the log density of node .* is missing" groups-artifact
             {:log-densities (dissoc densities (names "y"))})
    (refuses #":log-densities: no node has this name" groups-artifact
             {:log-densities (assoc densities "strange" +)})
    (refuses #"sample99: no node of the model" (io/file cases "bad" "of_fewer_latents")
             {:log-densities {"sample1" (constantly 0.0)}})
    (refuses #"reads what is not drawn before it" (io/file cases "bad" "out_of_order")
             {:log-densities densities})))

(defn- alone
  "A manifest of one latent, with this link, beside a flow of none."
  [link]
  {"model" {"nodes" [{"name" "p" "link" link "parents" []}]}
   "integrated" ["p"]
   "layout" {"latents" [] "observed" []}})

(deftest supports-are-those-of-families-or-the-caller-s
  ;; 3 p^2 on the unit interval.
  (let [density {"p" (fn [v] (+ (Math/log 3.0) (* 2.0 (Math/log (v "p")))))}]
    (doseq [[link supports] [["(beta 3 1)" {}]
                             ["(uniform 0 1)"
                              {"p" {:support "interval" :bounds [0.0 1.0]}}]]
            e [-2.0 -0.5 0.0 1.5]]
      (let [found (integrated/conditionals (alone link) density supports)
            [{p "p"} densities] (integrated/drawn found {} [e])]
        (is (< 0.0 p 1.0))
        (is (< (Math/abs (- (densities "p") (Math/log (* 3.0 p p)))) 0.05))
        (is (< (Math/abs (- (densities "p")
                            ((integrated/densities found {"p" p}) "p")))
               1e-9))))
    (is (thrown-with-msg? clojure.lang.ExceptionInfo
                          #"latent p: the artifact does not say where it has mass"
                          (integrated/conditionals (alone "(if c (beta 3 1) (beta 1 3))")
                                                   density {})))))
