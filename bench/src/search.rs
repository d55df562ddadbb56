//! Finds the highest rate that a system sustains: which rate to try next, given how the last ones went. Pure.

/// Most rates that are tried in short before one is confirmed.
pub const MAX_TRIES: u32 = 18;
/// Most rates that are tried at full length.
pub const MAX_CONFIRMS: u32 = 3;
/// Rates below this are nothing: a system that fails here sustains none.
pub const MIN_RATE: f64 = 0.5;
/// Most by which a rate grows after a pass.
const MAX_GROWTH: f64 = 4.0;
/// Of what landed while too much was offered, this share is tried next: a little less than what just failed to be enough.
const OF_LANDED: f64 = 0.98;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// Offer this rate for a short while.
    Try(f64),
    /// Offer it for the whole duration.
    Confirm(f64),
    /// This rate was sustained for the whole duration.
    Sustained(f64),
    /// None was. The rate is the highest that passed in short, if any.
    NotConfirmed(Option<f64>),
}

/// How an offered rate went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Whether it was sustained: enough succeeded, and the backlog did not grow.
    pub passed: bool,
    /// What landed meanwhile, by the same unit as the rate.
    pub landed: f64,
}

/// What is known so far.
#[derive(Debug, Clone)]
pub struct Search {
    /// Highest rate that passed; 0 if none did.
    low: f64,
    /// Lowest rate that failed.
    high: Option<f64>,
    next: f64,
    /// By how much the rate grows after a pass, while nothing has failed. Squared each time.
    growth: f64,
    precision: f64,
    tries: u32,
    confirms: u32,
    done: Option<Step>,
    confirming: bool,
    /// Whether the last rate came from what had landed. If that fails as well, what lands says nothing.
    guessed: bool,
}

impl Search {
    /// Begins at `rate` and grows by `growth`: 2 where nothing is known, 1.05 or so beside a good guess. Ends when what
    /// passed and what failed are `precision` apart, as a share.
    pub fn new(rate: f64, growth: f64, precision: f64) -> Self {
        Self {
            low: 0.0,
            high: None,
            next: rate.max(MIN_RATE),
            growth: growth.clamp(1.01, MAX_GROWTH),
            precision: precision.clamp(0.001, 0.3),
            tries: 0,
            confirms: 0,
            done: None,
            confirming: false,
            guessed: false,
        }
    }

    /// What to do next. The same until the outcome is told.
    pub fn step(&self) -> Step {
        match self.done {
            Some(done) => done,
            None if self.confirming => Step::Confirm(self.next),
            None => Step::Try(self.next),
        }
    }

    /// How the last step went.
    pub fn learn(&mut self, outcome: Outcome) {
        if self.done.is_some() {
        } else if self.confirming {
            self.learn_confirmed(outcome);
        } else {
            self.learn_tried(outcome);
        }
    }

    fn learn_tried(&mut self, Outcome { passed, landed }: Outcome) {
        self.tries += 1;
        if passed {
            self.low = self.low.max(self.next);
        } else {
            self.high = Some(self.high.map_or(self.next, |high| high.min(self.next)));
        }
        self.next = match self.high {
            None => {
                let next = self.next * self.growth;
                self.growth = (self.growth * self.growth).min(MAX_GROWTH);
                next
            }
            Some(high) => {
                // A saturated system tells by what it lands what it can do; one that breaks down tells nothing.
                let landed = landed * OF_LANDED;
                self.guessed = !passed && !self.guessed && landed > self.low.max(MIN_RATE) && landed < high;
                if self.guessed { landed } else { f64::midpoint(self.low, high) }
            }
        };
        let narrow = self.high.is_some_and(|high| self.low > 0.0 && high <= self.low * (1.0 + self.precision));
        if narrow || self.tries >= MAX_TRIES || self.next < MIN_RATE {
            self.confirming = true;
            self.next = self.low;
            if self.low == 0.0 {
                self.done = Some(Step::NotConfirmed(None));
            }
        }
    }

    fn learn_confirmed(&mut self, Outcome { passed, landed }: Outcome) {
        self.confirms += 1;
        if passed {
            self.done = Some(Step::Sustained(self.next));
        } else if self.confirms >= MAX_CONFIRMS {
            self.done = Some(Step::NotConfirmed(Some(self.low)));
        } else {
            // At least a step down, at most to half: over so long, what landed is what it can do.
            self.next = (landed * OF_LANDED).clamp(self.next * 0.5, self.next * (1.0 - self.precision));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A system that lands at most `capacity`, or that share of it which `collapse` leaves when more is offered.
    struct Model {
        capacity: f64,
        collapse: f64,
        /// How much more than its capacity goes unnoticed in a short try.
        blur: f64,
    }

    impl Model {
        fn offer(&self, rate: f64, blur: f64) -> Outcome {
            let passed = rate <= self.capacity * (1.0 + blur);
            Outcome { passed, landed: if passed { rate.min(self.capacity) } else { self.capacity * self.collapse } }
        }

        fn search(&self, mut search: Search) -> (Step, u32, u32) {
            let (mut tries, mut confirms) = (0, 0);
            loop {
                match search.step() {
                    Step::Try(rate) => {
                        tries += 1;
                        search.learn(self.offer(rate, self.blur));
                    }
                    Step::Confirm(rate) => {
                        confirms += 1;
                        search.learn(self.offer(rate, 0.0));
                    }
                    done => return (done, tries, confirms),
                }
                assert!(tries <= MAX_TRIES && confirms <= MAX_CONFIRMS);
            }
        }
    }

    fn sustained(step: Step) -> f64 {
        match step {
            Step::Sustained(rate) => rate,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn beside_a_good_guess_a_few_tries_are_enough() {
        for capacity in [600.0, 660.0, 700.0, 720.0, 760.0] {
            let model = Model { capacity, collapse: 1.0, blur: 0.0 };
            let (step, tries, confirms) = model.search(Search::new(690.0, 1.05, 0.03));
            let rate = sustained(step);
            assert!(rate <= capacity && rate >= capacity * 0.96, "{capacity}: {rate}");
            assert!(tries <= 6 && confirms == 1, "{capacity}: {tries} tries");
        }
    }

    #[test]
    fn from_nothing_any_capacity_is_found() {
        for capacity in [0.7, 4.5, 93.0, 700.0, 26_000.0, 150_000.0] {
            for collapse in [1.0, 0.5, 0.0] {
                let model = Model { capacity, collapse, blur: 0.0 };
                let (step, ..) = model.search(Search::new(10.0, 2.0, 0.05));
                let rate = sustained(step);
                assert!(rate <= capacity && rate >= capacity * 0.75, "{capacity} with {collapse}: {rate}");
            }
        }
    }

    #[test]
    fn a_short_try_that_was_too_kind_is_put_right_by_the_long_one() {
        let model = Model { capacity: 700.0, collapse: 1.0, blur: 0.04 };
        let (step, _, confirms) = model.search(Search::new(690.0, 1.05, 0.03));
        let rate = sustained(step);
        assert!((660.0..=700.0).contains(&rate), "{rate}");
        assert!((2..=MAX_CONFIRMS).contains(&confirms));
    }

    #[test]
    fn what_sustains_nothing_is_said_to() {
        let (step, ..) = Model { capacity: 0.1, collapse: 1.0, blur: 0.0 }.search(Search::new(10.0, 2.0, 0.05));
        assert_eq!(step, Step::NotConfirmed(None));
        // Passes in short and never in full.
        let mut search = Search::new(10.0, 2.0, 0.05);
        let mut confirmed = Vec::new();
        let done = loop {
            match search.step() {
                Step::Try(rate) => search.learn(Outcome { passed: rate <= 20.0, landed: 20.0 }),
                Step::Confirm(rate) => {
                    confirmed.push(rate);
                    search.learn(Outcome { passed: false, landed: 0.0 });
                }
                done => break done,
            }
        };
        assert!(matches!(done, Step::NotConfirmed(Some(rate)) if (19.0..=20.0).contains(&rate)), "{done:?}");
        assert!(confirmed.len() == MAX_CONFIRMS as usize && confirmed.windows(2).all(|pair| pair[1] < pair[0]));
    }

    #[test]
    fn a_step_stands_until_its_outcome_is_told() {
        let mut search = Search::new(100.0, 2.0, 0.05);
        assert_eq!((search.step(), search.step()), (Step::Try(100.0), Step::Try(100.0)));
        search.learn(Outcome { passed: true, landed: 100.0 });
        assert_eq!(search.step(), Step::Try(200.0));
        search.learn(Outcome { passed: false, landed: 160.0 });
        assert!(matches!(search.step(), Step::Try(rate) if (150.0..160.0).contains(&rate)));
        // What landed was no help: the middle is next.
        search.learn(Outcome { passed: false, landed: 150.0 });
        assert!(matches!(search.step(), Step::Try(rate) if (125.0..130.0).contains(&rate)));
    }
}
