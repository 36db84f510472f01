(ns daphne-flows.quadratic-forms
  "This namespace is logarithms of quadratic forms that the first units of a network
  are given: of what it reads, x, form k is

      f_k = log(1e-6 + sum_d w_dk^2 (a_d x)^2) / 2,        |a_d x| up to 1e15,

  and f C is added to the units. There are eight times as many directions a as forms."
  (:require [daphne-flows.dense :as dense]))

(set! *warn-on-reflection* true)

(def ^:private directions-of-each 8)

(def ^:private ^:const least 1e-6)

(def ^:private ^:const most 1e15)

(defn- names [prefix]
  (map #(str prefix "forms." %) ["directions" "weights" "last"]))

(defn shapes
  "[name shape] of the tensors of `forms` of each of `num` networks, which read so many
  numbers together and have so many units."
  [prefix forms num reads units]
  (let [size (*' directions-of-each forms)]
    (when (pos? forms)
      (map vector (names prefix) [[reads size] [num size forms] [num forms units]]))))

(defn- squares ^doubles [^doubles values]
  (amap values k _ (* (aget values k) (aget values k))))

(defn of-network
  "The `forms` of the network at a place, whose reads begin at `start`."
  [tensors prefix forms place start units]
  (when (pos? forms)
    (let [[directions weights last] (map tensors (names prefix))
          size (* directions-of-each forms)]
      {:directions [directions (* start size) (double-array size)]
       :weights [(squares (dense/part weights place (* size forms)))
                 0
                 (double-array forms least)]
       :last [last (* place forms units) (double-array units)]})))

(defn- through ^doubles [^doubles in [matrix start bias]]
  (dense/affine in matrix start bias))

(defn given-to-units
  "What forms of the numbers that a network reads add to its units."
  ^doubles [{:keys [directions weights last]} in]
  (let [seen (through in directions)
        near (amap seen k _ (max (- most) (min most (aget seen k))))
        forms (through (squares near) weights)]
    (through (amap forms k _ (* 0.5 (Math/log (aget forms k)))) last)))
