(ns daphne-flows.problem
  "This namespace says what is wrong, in one sentence.

  Every error is an `ex-info` that reads `where: what; expected ...; got ...` and carries
  these four as data.")

(defn fail
  "Throws an error. `expected` and `got` may be nil."
  ([where what] (fail where what nil nil))
  ([where what expected got]
   (throw (ex-info (str where ": " what
                        (when expected (str "; expected " expected))
                        (when got (str "; got " got)))
                   {:where where :what what :expected expected :got got}))))

(defn shown
  "A value as text for a message, cut short."
  [value]
  (let [text (pr-str value)]
    (if (<= (count text) 60) text (str (subs text 0 57) "..."))))
