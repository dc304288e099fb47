//! What needs no neural network: the commonest class, and naive Bayes over a bag of words. A report that does not beat
//! them by far says little about its model.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{cases::Case, report::Share};

/// The words of a text as the baselines see them: runs of letters and digits in lower case, accents kept.
pub fn tokens(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(String::from).collect()
}

/// The share of their different words that two texts have in common, from 0 to 1; 0 if neither has any.
pub fn jaccard(a: &str, b: &str) -> f64 {
    let (a, b): (BTreeSet<String>, BTreeSet<String>) =
        (tokens(a).into_iter().collect(), tokens(b).into_iter().collect());
    let union = a.union(&b).count();
    if union == 0 { 0.0 } else { a.intersection(&b).count() as f64 / union as f64 }
}

/// The commonest label; of equals the first in the alphabet.
pub fn majority(cases: &[Case]) -> Option<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for case in cases {
        *counts.entry(label(case)).or_default() += 1;
    }
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(label, _)| label)
}

/// How many cases a method gets right.
pub fn accuracy(cases: &[Case], predict: &dyn Fn(&str) -> String) -> Share {
    Share { correct: cases.iter().filter(|case| predict(&case.question) == label(case)).count(), cases: cases.len() }
}

/// Multinomial naive Bayes with Laplace smoothing of 1; the same as scikit-learn's `CountVectorizer(token_pattern=r"\w+")`
/// (which also takes `_` for a letter) and `MultinomialNB()`.
#[derive(Debug, Clone)]
pub struct NaiveBayes {
    /// In alphabetical order, with the log of each one's share of the cases.
    labels: Vec<(String, f64)>,
    /// Log-likelihood of each known word under each label.
    words: HashMap<String, Vec<f64>>,
}

impl NaiveBayes {
    /// Counts the words of the cases.
    ///
    /// # Panics
    /// If there are no cases.
    pub fn train(cases: &[Case]) -> NaiveBayes {
        assert!(!cases.is_empty(), "naive Bayes needs at least one case");
        let names: Vec<String> = cases.iter().map(label).collect::<BTreeSet<_>>().into_iter().collect();
        let mut cases_of = vec![0_usize; names.len()];
        let mut words_of = vec![0_usize; names.len()];
        let mut counts: HashMap<String, Vec<usize>> = HashMap::new();
        for case in cases {
            let index = names.binary_search(&label(case)).expect("every label was collected");
            cases_of[index] += 1;
            for word in tokens(&case.question) {
                words_of[index] += 1;
                counts.entry(word).or_insert_with(|| vec![0; names.len()])[index] += 1;
            }
        }
        let vocabulary = counts.len();
        let log_likelihoods = |counts: Vec<usize>| {
            let of = |(count, words): (usize, &usize)| ((count + 1) as f64 / (words + vocabulary) as f64).ln();
            counts.into_iter().zip(&words_of).map(of).collect()
        };
        let priors = cases_of.iter().map(|&count| (count as f64 / cases.len() as f64).ln());
        NaiveBayes {
            labels: names.into_iter().zip(priors).collect(),
            words: counts.into_iter().map(|(word, counts)| (word, log_likelihoods(counts))).collect(),
        }
    }

    /// The most probable label; words that were never seen count for nothing.
    pub fn predict(&self, question: &str) -> String {
        let known: Vec<&Vec<f64>> = tokens(question).iter().filter_map(|word| self.words.get(word)).collect();
        let score = |index: usize| self.labels[index].1 + known.iter().map(|word| word[index]).sum::<f64>();
        // From the back, because of equals `max_by` takes the last and we want the first.
        let best = (0..self.labels.len()).rev().max_by(|&a, &b| score(a).total_cmp(&score(b)));
        self.labels[best.expect("there is a label")].0.clone()
    }
}

/// Several agents are one label here.
fn label(case: &Case) -> String {
    case.route.join("+")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases(rows: &[(&str, &str)]) -> Vec<Case> {
        let case = |(question, route): &(&str, &str)| Case {
            line: 1,
            question: question.to_string(),
            route: vec![route.to_string()],
        };
        rows.iter().map(case).collect()
    }

    fn sample() -> Vec<Case> {
        cases(&[
            ("dónde está mi pedido", "envios"),
            ("mi pedido no llega", "envios"),
            ("qué precio tiene", "ventas"),
            ("el precio de la tele", "ventas"),
            ("la factura de mi pedido", "facturacion"),
        ])
    }

    #[test]
    fn tokens_are_lower_case_and_keep_their_accents() {
        assert_eq!(tokens("¿CUÁNTO cuesta? 20€, it's"), ["cuánto", "cuesta", "20", "it", "s"]);
    }

    #[test]
    fn jaccard_is_the_share_of_common_words() {
        assert_eq!(jaccard("a b c", "b C d"), 0.5);
        assert_eq!(jaccard("a a a", "A"), 1.0);
        assert_eq!(jaccard("á", "a"), 0.0);
        assert_eq!(jaccard("", "!"), 0.0);
    }

    #[test]
    fn the_majority_is_the_commonest_label_and_of_equals_the_first() {
        assert_eq!(majority(&sample()).as_deref(), Some("envios"));
        assert_eq!(majority(&cases(&[("a", "z"), ("b", "y")])).as_deref(), Some("y"));
        assert_eq!(majority(&[]), None);
    }

    #[test]
    fn naive_bayes_scores_as_scikit_learn_does() {
        // scikit-learn 1.9.1: MultinomialNB on CountVectorizer(token_pattern=r"\w+") of the same five lines.
        let bayes = NaiveBayes::train(&sample());
        assert_eq!(bayes.predict("mi pedido"), "envios");
        assert_eq!(bayes.predict("el precio de mi pedido"), "ventas");
        assert_eq!(bayes.predict("factura factura"), "facturacion");
        assert_eq!(bayes.predict("nada conocido"), "envios");
        // 8 words under `envios` and 14 different ones in all: p(pedido | envios) = (2 + 1) / (8 + 14).
        let envios = bayes.labels.iter().position(|(label, _)| label == "envios").unwrap();
        assert!((bayes.words["pedido"][envios] - (3.0_f64 / 22.0).ln()).abs() < 1e-12);
        assert!((bayes.labels[envios].1 - 0.4_f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn accuracy_counts_what_is_right() {
        let bayes = NaiveBayes::train(&sample());
        let share = accuracy(&sample(), &|question| bayes.predict(question));
        assert_eq!((share.correct, share.cases), (5, 5));
        assert_eq!(accuracy(&sample(), &|_| "envios".to_string()).correct, 2);
    }

    #[test]
    fn no_shipped_test_question_is_a_training_question_in_disguise() {
        let read = |text| crate::cases::read_cases(text).unwrap();
        let train = read(include_str!("../../../data/router/train.jsonl"));
        let test = read(include_str!("../../../data/router/test.jsonl"));
        for case in &test {
            let near = train.iter().find(|other| jaccard(&case.question, &other.question) >= 0.5);
            assert_eq!(near, None, "test line {}: {}", case.line, case.question);
        }
    }

    #[test]
    fn the_shipped_test_is_too_hard_for_a_bag_of_words() {
        let read = |text| crate::cases::read_cases(text).unwrap();
        let train = read(include_str!("../../../data/router/train.jsonl"));
        let test = read(include_str!("../../../data/router/test.jsonl"));
        let bayes = NaiveBayes::train(&train);
        let share = accuracy(&test, &|question| bayes.predict(question));
        assert!(share.accuracy() <= 0.75, "naive Bayes: {share}");
    }
}
