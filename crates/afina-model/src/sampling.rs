//! From a row of logits to a token: temperature, then top-k, then top-p, then a draw.

/// `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 keep every token.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingOptions {
    pub temperature: f32,
    pub top_k: usize,
    pub top_p: f32,
    pub seed: u64,
}

/// Draws tokens; the same seed and logits give the same tokens.
#[derive(Debug, Clone)]
pub struct Sampler {
    options: SamplingOptions,
    draws: u64,
}

impl Sampler {
    pub fn new(options: SamplingOptions) -> Sampler {
        Sampler { options, draws: 0 }
    }

    /// The index of the chosen logit. Ties go to the lower index.
    ///
    /// # Panics
    /// When `logits` is empty.
    pub fn sample(&mut self, logits: &[f32]) -> usize {
        if self.options.temperature <= 0.0 {
            return argmax(logits);
        }
        let probabilities = self.probabilities(logits);
        let point = uniform(self.options.seed, self.draws);
        self.draws += 1;
        let mut cumulative = 0.0;
        for &(index, probability) in &probabilities {
            cumulative += probability;
            if point < cumulative {
                return index;
            }
        }
        probabilities.last().expect("at least one token is kept").0
    }

    /// The kept tokens and their probabilities, largest first.
    ///
    /// Source: transformers `logits_process.py`: `TemperatureLogitsWarper`, `TopKLogitsWarper`, `TopPLogitsWarper`, in this order.
    pub fn probabilities(&self, logits: &[f32]) -> Vec<(usize, f64)> {
        let temperature = f64::from(self.options.temperature);
        let mut kept: Vec<(usize, f64)> =
            logits.iter().enumerate().map(|(index, &logit)| (index, f64::from(logit) / temperature)).collect();
        kept.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if self.options.top_k > 0 {
            kept.truncate(self.options.top_k);
        }
        normalize(&mut kept);
        if self.options.top_p < 1.0 {
            // The smallest set whose mass reaches top_p: a token goes when the mass before it is already there.
            let mut before = 0.0;
            let mut keep = 0;
            for &(_, probability) in &kept {
                if keep > 0 && before >= f64::from(self.options.top_p) {
                    break;
                }
                before += probability;
                keep += 1;
            }
            kept.truncate(keep);
            let mass: f64 = kept.iter().map(|(_, probability)| probability).sum();
            kept.iter_mut().for_each(|(_, probability)| *probability /= mass);
        }
        kept
    }
}

/// Logits, largest first, to probabilities.
fn normalize(kept: &mut [(usize, f64)]) {
    let largest = kept.first().map_or(0.0, |&(_, logit)| logit);
    kept.iter_mut().for_each(|(_, logit)| *logit = (*logit - largest).exp());
    let sum: f64 = kept.iter().map(|(_, exp)| exp).sum();
    kept.iter_mut().for_each(|(_, exp)| *exp /= sum);
}

pub(crate) fn argmax(logits: &[f32]) -> usize {
    let mut best = 0;
    for (index, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = index;
        }
    }
    best
}

/// A number in [0, 1) that depends on nothing but its two arguments.
pub(crate) fn uniform(seed: u64, counter: u64) -> f64 {
    (mix(seed, counter) >> 11) as f64 / (1u64 << 53) as f64
}

/// Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014 (SplitMix64's finalizer, here over a counter).
fn mix(seed: u64, counter: u64) -> u64 {
    let mut z = seed.wrapping_add(counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
