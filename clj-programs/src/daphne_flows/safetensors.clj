(ns daphne-flows.safetensors
  "This namespace reads a safetensors file into arrays of doubles.

  Eight bytes hold the length of the header (unsigned, little endian), then comes the
  header, a JSON object from a tensor's name to `dtype`, `shape` and `data_offsets`
  [begin end) counted from the end of the header, then the numbers, little endian, row
  by row. Every offset is checked against the file before anything is allocated.

  Reference: https://github.com/huggingface/safetensors"
  (:require [clojure.data.json :as json]
            [daphne-flows.problem :refer [fail shown]])
  (:import (java.nio ByteBuffer ByteOrder)))

(set! *warn-on-reflection* true)

(def ^:private sizes {"F32" 4 "F64" 8})

(defn- header
  "The parsed header and where the numbers begin."
  [^ByteBuffer buffer where]
  (when (< (.limit buffer) 8)
    (fail where "cut short" "a safetensors file" (str (.limit buffer) " bytes")))
  (let [length (.getLong buffer 0)
        most (- (.limit buffer) 8)]
    (when-not (<= 2 length most)
      (fail where "the header is longer than the file"
            (str "at most " most " bytes") (Long/toUnsignedString length)))
    (let [content (byte-array length)]
      (.position buffer 8)
      (.get buffer content)
      (let [parsed (try (json/read-str (String. content "UTF-8"))
                        (catch Exception _ nil)
                        (catch StackOverflowError _ nil))]
        (when-not (map? parsed)
          (fail where "the header is no JSON object"))
        [(dissoc parsed "__metadata__") (+ 8 length)]))))

(defn- count-of
  "How many numbers a shape has, at most `most`."
  [shape most where]
  (when-not (and (vector? shape) (every? nat-int? shape))
    (fail where "not a shape" "whole numbers" (shown shape)))
  (reduce (fn [total length]
            (if (or (zero? length) (<= total (quot most length)))
              (* total length)
              (fail where "a tensor larger than the file" (str most " numbers")
                    (shown shape))))
          1 shape))

(defn- tensor
  "One tensor, its numbers copied out."
  [^ByteBuffer buffer start [name {:strs [dtype shape data_offsets]}] where]
  (let [where (str where ": " (shown name))
        room (- (.limit buffer) start)
        [begin end] (when (vector? data_offsets) data_offsets)]
    (when-not (sizes dtype)
      (fail where "another type of numbers" "F32 or F64" (shown dtype)))
    (when-not (and (nat-int? begin) (nat-int? end) (<= begin end room)
                   (= 2 (count data_offsets)))
      (fail where "offsets outside of the file" (str "0 to " room)
            (shown data_offsets)))
    (let [size (long (sizes dtype))
          total (long (count-of shape room where))
          values (when (= (* total size) (- end begin)) (double-array total))]
      (when-not values
        (fail where "shape and offsets disagree" (str (* total size) " bytes")
              (str (- end begin))))
      (.position buffer (int (+ start begin)))
      (if (= dtype "F32")
        (dotimes [i total] (aset ^doubles values i (double (.getFloat buffer))))
        (dotimes [i total] (aset ^doubles values i (.getDouble buffer))))
      {:shape shape :values values :begin begin :end end})))

(defn parse
  "The tensors of a file's bytes: name -> {:shape [...] :values doubles}."
  [^bytes content where]
  (let [buffer (.order (ByteBuffer/wrap content) ByteOrder/LITTLE_ENDIAN)
        [entries start] (header buffer where)
        tensors (into {} (map (fn [entry] [(key entry) (tensor buffer start entry where)]))
                      entries)
        spans (sort (map (juxt :begin :end) (vals tensors)))
        end (reduce (fn [end [begin next-end]]
                      (if (= begin end)
                        next-end
                        (fail where "tensors overlap or leave a gap")))
                    0 spans)]
    (when-not (= end (- (alength content) start))
      (fail where "bytes after the last tensor"))
    tensors))
