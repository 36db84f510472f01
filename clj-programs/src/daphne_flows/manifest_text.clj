(ns daphne-flows.manifest-text
  "This namespace computes the checksum of a manifest from its text.

  The checksum is the SHA-256 of the manifest with the members of every object sorted by
  name, no white space, and the text of `checksum` empty. Numbers and strings count as
  they are written, so no reader needs to print numbers as the writer did."
  (:require [clojure.data.json :as json]
            [clojure.string :as string]
            [daphne-flows.problem :refer [fail]])
  (:import (java.security MessageDigest)))

(set! *warn-on-reflection* true)

(def ^:private token-pattern
  #"\"(?:[^\"\\]|\\.)*+\"|[\[\]{},:]|[^\s\[\]{},:\"]+")

(defn- close
  "The text of a finished array or object."
  [{:keys [kind items]}]
  (if (= kind "[")
    (str "[" (string/join "," items) "]")
    (str "{"
         (->> (partition 2 items)
              (map (fn [[name value]] [(json/read-str name) name value]))
              (sort-by first)
              (map (fn [[_ name value]] (str name ":" value)))
              (string/join ","))
         "}")))

(defn canonical
  "The text with sorted members and without white space; `text` must be JSON.

  An explicit stack of open arrays and objects, so that depth costs no stack."
  [text]
  (loop [tokens (re-seq token-pattern text)
         stack (list {:kind "document" :items []})]
    (if-let [token (first tokens)]
      (let [add (fn [stack item]
                  (conj (rest stack) (update (first stack) :items conj item)))]
        (recur (rest tokens)
               (case token
                 ("[" "{") (conj stack {:kind token :items []})
                 ("]" "}") (add (rest stack) (close (first stack)))
                 ("," ":") stack
                 (add stack token))))
      (first (:items (first stack))))))

(defn sha256
  "`sha256:` and the digest of bytes in hexadecimal."
  [^bytes content]
  (let [digest (.digest (MessageDigest/getInstance "SHA-256") content)]
    (str "sha256:" (string/join (map #(format "%02x" %) digest)))))

(defn check
  "Throws unless the manifest's text has the checksum it states."
  [^String text stated where]
  (let [blank (string/replace-first (canonical text)
                                    (str "\"checksum\":\"" stated "\"")
                                    "\"checksum\":\"\"")
        found (sha256 (.getBytes ^String blank "UTF-8"))]
    (when (not= found stated)
      (fail where "the manifest was changed after it was written"
            (str "the checksum " (subs found 0 19) "...") (str stated)))))
