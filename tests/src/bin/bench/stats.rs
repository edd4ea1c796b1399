//! Medians and spread.

/// Measurements of one thing, at least one.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// In order of size.
    sorted: Vec<f64>,
}

impl Sample {
    /// `None` without values, or where one is NaN.
    pub fn new(mut values: Vec<f64>) -> Option<Self> {
        if values.is_empty() || values.iter().any(|value| value.is_nan()) {
            return None;
        }
        values.sort_by(f64::total_cmp);
        Some(Self { sorted: values })
    }

    pub fn values(&self) -> &[f64] {
        &self.sorted
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub fn min(&self) -> f64 {
        self.sorted[0]
    }

    pub fn max(&self) -> f64 {
        self.sorted[self.sorted.len() - 1]
    }

    /// The value below which this share of them lies, between two of them in proportion.
    pub fn quantile(&self, share: f64) -> f64 {
        let position = share.clamp(0.0, 1.0) * (self.sorted.len() - 1) as f64;
        let (below, above) = (position.floor(), position.ceil());
        let at = |position: f64| self.sorted[position as usize];
        at(below) + (at(above) - at(below)) * (position - below)
    }

    /// The 95 % interval of the median, by the ranks of a binomial distribution: it assumes nothing of how the values
    /// are spread.
    pub fn interval(&self) -> [f64; 2] {
        let count = self.sorted.len();
        let below = ((count as f64 - 1.96 * (count as f64).sqrt()) / 2.0).floor().max(0.0) as usize;
        let low = below.min(count - 1);
        [self.sorted[low], self.sorted[count - 1 - low]]
    }

    /// The median distance from the median.
    pub fn deviation(&self) -> f64 {
        let median = self.median();
        let distances = self.sorted.iter().map(|value| (value - median).abs()).collect();
        Self::new(distances).map_or(0.0, |distances| distances.median())
    }
}

/// The ratios of measurements taken in pairs, one right after the other, so that what disturbs the host
/// disturbs both.
pub fn ratios(pairs: &[(f64, f64)]) -> Option<Sample> {
    Sample::new(pairs.iter().map(|(base, other)| other / base).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(values: &[f64]) -> Sample {
        Sample::new(values.to_vec()).expect("numbers")
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        assert_eq!(sample(&[3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(sample(&[4.0, 1.0, 2.0, 3.0]).median(), 2.5);
        assert_eq!(sample(&[7.0]).median(), 7.0);
    }

    #[test]
    fn one_wild_value_moves_the_spread_and_not_the_middle() {
        let sample = sample(&[10.0, 11.0, 9.0, 10.0, 1_000.0]);
        assert_eq!((sample.median(), sample.deviation()), (10.0, 1.0));
        assert_eq!((sample.min(), sample.max()), (9.0, 1_000.0));
    }

    #[test]
    fn quantiles_lie_between_the_smallest_and_the_largest() {
        let hundred = sample(&(1..=101).map(f64::from).collect::<Vec<_>>());
        assert_eq!(hundred.quantile(0.99), 100.0);
        assert_eq!((hundred.quantile(0.0), hundred.quantile(1.0)), (1.0, 101.0));
        assert_eq!(sample(&[1.0, 2.0]).quantile(0.25), 1.25);
    }

    #[test]
    fn the_interval_of_forty_is_from_the_fourteenth_to_the_twenty_seventh() {
        let forty = sample(&(1..=40).map(f64::from).collect::<Vec<_>>());
        assert_eq!(forty.interval(), [14.0, 27.0]);
        assert_eq!(sample(&[1.0, 2.0]).interval(), [1.0, 2.0]);
    }

    #[test]
    fn nothing_and_no_number_have_no_median() {
        assert_eq!(Sample::new(vec![]), None);
        assert_eq!(Sample::new(vec![1.0, f64::NAN]), None);
        assert_eq!(ratios(&[]), None);
    }

    #[test]
    fn a_ratio_is_of_each_pair() {
        // The host has slowed down by half meanwhile: the pairs have not.
        let pairs = [(100.0, 90.0), (50.0, 45.0), (25.0, 22.5)];
        assert_eq!(ratios(&pairs).expect("pairs").median(), 0.9);
    }
}
