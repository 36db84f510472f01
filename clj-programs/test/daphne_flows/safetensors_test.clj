(ns daphne-flows.safetensors-test
  "This namespace tests that files are read within their bounds."
  (:require [clojure.data.json :as json]
            [clojure.test :refer [are deftest is]]
            [daphne-flows.safetensors :as safetensors])
  (:import (java.nio ByteBuffer ByteOrder)))

(defn- file
  "Bytes of a file with this header text and numbers; `length` may lie."
  ([header numbers] (file header numbers nil))
  ([^String header numbers length]
   (let [text (.getBytes header "UTF-8")
         buffer (.order (ByteBuffer/allocate (+ 8 (alength text) (* 4 (count numbers))))
                        ByteOrder/LITTLE_ENDIAN)]
     (.putLong buffer (or length (alength text)))
     (.put buffer text)
     (doseq [x numbers] (.putFloat buffer x))
     (.array buffer))))

(defn- header [& {:as changes}]
  (json/write-str {"a" (merge {"dtype" "F32" "shape" [2] "data_offsets" [0 8]}
                              changes)}))

(deftest numbers-are-read-as-they-are
  (let [found (safetensors/parse (file (header) [0.1 -2.5]) "here")]
    (is (= [2] (get-in found ["a" :shape])))
    (is (= [(double (float 0.1)) -2.5] (vec (get-in found ["a" :values]))))))

(deftest what-lies-outside-of-the-file-is-refused
  (are [content] (thrown? clojure.lang.ExceptionInfo (safetensors/parse content "here"))
    (byte-array 0)
    (byte-array 7)
    (file (header) [1 2] Long/MAX_VALUE)
    (file (header) [1 2] -1)
    (file (header) [1 2] 1000000)
    (file "[]" [])
    (file (apply str (repeat 100000 "[")) [])
    (file (header) [1])
    (file (header) [1 2 3])
    (file (header "shape" [1000000000000]) [1 2])
    (file (header "shape" [4294967296 4294967296]) [1 2])
    (file (header "shape" [-2]) [1 2])
    (file (header "shape" "2") [1 2])
    (file (header "data_offsets" [8 0]) [1 2])
    (file (header "data_offsets" [-8 0]) [1 2])
    (file (header "data_offsets" [0 1.0e30]) [1 2])
    (file (header "data_offsets" nil) [1 2])
    (file (header "dtype" "I64") [1 2])))
