//! What a person orders meanwhile, and the limit on spending.
use keyshard_shard::{AskId, Cancel, Input, Reply};

use super::{Event, MILLI, SECOND, World};
use crate::{chain, random::Random};

/// An order that may come at any time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    Pause(bool),
    /// One of the keys, by its position.
    Quarantine(usize, bool),
    /// Any payment.
    Cancel,
}

/// What is in force; it outlives a process.
#[derive(Default)]
pub(super) struct Orders {
    paused: bool,
    quarantined: Vec<usize>,
    /// There was one at least.
    given: bool,
}

impl World {
    pub(super) fn plan_orders(&mut self, random: &mut Random) {
        if !random.chance(300) {
            return;
        }
        for _ in 0..random.among(1..=6) {
            let at = random.below(self.quiet_at);
            let ends = at + random.among(1..=30) * SECOND;
            let key = random.below(chain::KEYS as u64) as usize;
            match random.below(3) {
                0 => {
                    self.at(at, Event::Order(Order::Pause(true)));
                    self.at(ends, Event::Order(Order::Pause(false)));
                }
                1 => {
                    self.at(at, Event::Order(Order::Quarantine(key, true)));
                    self.at(ends, Event::Order(Order::Quarantine(key, false)));
                }
                _ => self.at(at, Event::Order(Order::Cancel)),
            }
        }
    }

    pub(super) fn order(&mut self, order: Order) {
        self.story.note(|| format!("ordered: {order:?}"));
        self.promises.tally.met(match order {
            Order::Pause(_) => "orders to pause or go on",
            Order::Quarantine(..) => "orders about a key",
            Order::Cancel => "orders to take a payment back",
        });
        self.orders.given = true;
        match order {
            Order::Pause(paused) => self.orders.paused = paused,
            Order::Quarantine(key, true) => self.orders.quarantined.push(key),
            Order::Quarantine(key, false) => self.orders.quarantined.retain(|other| *other != key),
            Order::Cancel => self.cancel(),
        }
        self.obey();
    }

    /// Tells the shards what is in force.
    pub(super) fn obey(&mut self) {
        let Some(life) = self.life.as_mut().filter(|_| self.orders.given) else { return };
        let shards = life.shards();
        let names: Vec<String> = (0..chain::KEYS).map(|key| chain::secret(key).public_key().to_string()).collect();
        for shard in life.all_shards() {
            shard.pause(self.orders.paused);
            for (key, name) in names.iter().enumerate() {
                shard.quarantine(name, self.orders.quarantined.contains(&key));
            }
        }
        (0..shards).for_each(|shard| self.run_soon(shard));
    }

    fn cancel(&mut self) {
        let payments = self.promises.payments.iter().enumerate();
        let open: Vec<_> = payments
            .filter(|(_, it)| !it.is_settled())
            .filter_map(|(payment, it)| Some((payment, it.accepted()?)))
            .collect();
        if open.is_empty() {
            return;
        }
        let (payment, id) = self.order_random.pick(&open);
        let now = self.clock();
        let Some(life) = &mut self.life else { return };
        let told: Vec<Cancel> = life.all_shards().map(|shard| shard.cancel(now, id, "cancelled")).collect();
        self.story.note_of(&[payment], || format!("the shards answer {told:?}"));
        if told.contains(&Cancel::Done) {
            self.promises.tally.met("payments taken back");
        }
    }

    /// A shard asks how much it may sign. Sometimes nothing, sometimes some of it.
    pub(super) fn allow(&mut self, shard: usize, id: AskId, least: u128, most: u128) {
        let random = &mut self.order_random;
        let reply = if random.chance(300) {
            self.promises.tally.met("answers that the limit is used up");
            let retry_after = std::time::Duration::from_micros(random.among(1..=20_000) * MILLI);
            Reply::NoAllowance { why: "used up".into(), retry_after }
        } else {
            let units = least + u128::from(random.below((most - least) as u64 + 1));
            self.promises.granted(units);
            Reply::Allowance(units)
        };
        self.give(shard, Input::Reply { id, reply });
    }
}
