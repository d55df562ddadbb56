//! Log events as the JSON lines of the Node service (pino): `{"level":30,"time":…,"service":…,"module":…,…,"msg":…}`.
use std::fmt::{self, Write as _};

use serde_json::Value;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::json::Iso;

/// The Node service's own name in its log, by which log collectors know it.
const SERVICE: &str = "ft-claiming-service";
/// Marks an error after which the process ends: level `fatal`, which `tracing` does not have.
const FATAL: &str = "fatal";

/// One line an event.
pub(super) struct NodeLines;

impl<S, N> FormatEvent<S, N> for NodeLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        writeln!(writer, "{}", line(event.metadata(), Iso::now(), fields))
    }
}

/// What is left out of an event's own fields: they cannot stand for what every line has.
const TAKEN: [&str; 5] = ["level", "time", "service", "module", "msg"];

fn line(metadata: &Metadata<'_>, now: Iso, fields: Fields) -> String {
    let Fields { message, fatal, others } = fields;
    let level = match *metadata.level() {
        _ if fatal => 60,
        Level::ERROR => 50,
        Level::WARN => 40,
        Level::INFO => 30,
        Level::DEBUG => 20,
        Level::TRACE => 10,
    };
    let quoted = |text: &str| Value::from(text).to_string();
    let mut line = format!(
        "{{\"level\":{level},\"time\":\"{now}\",\"service\":\"{SERVICE}\",\"module\":{}",
        quoted(module(metadata.target()))
    );
    for (name, value) in others.iter().filter(|(name, _)| !TAKEN.contains(name)) {
        let _ = write!(line, ",{}:{value}", quoted(name));
    }
    let _ = write!(line, ",\"msg\":{}}}", quoted(&message));
    line
}

/// The part of the service that speaks, as the Node service calls its own.
fn module(target: &str) -> &str {
    match target.split("::").next().unwrap_or_default() {
        "keyshard" => "server",
        "keyshard_engine" | "keyshard_shard" => "engine",
        "keyshard_rpc" => "near",
        "keyshard_sandbox" => "sandbox",
        other => other,
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    fatal: bool,
    /// In the order of the event.
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.others.push((field.name(), value.into()));
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == FATAL {
            self.fatal = value;
        } else {
            self.put(field, value);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.put(field, value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.put(field, format!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::fmt;

    use super::*;

    /// The lines that `say` logs.
    fn lines(say: impl FnOnce()) -> Vec<Value> {
        struct Text(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Text {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let text = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&text);
        let log = fmt().event_format(NodeLines).with_max_level(Level::TRACE).with_writer(move || Text(writer.clone()));
        tracing::subscriber::with_default(log.finish(), say);
        let text = String::from_utf8(text.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }

    #[test]
    fn an_event_is_a_line_that_the_node_service_could_have_written() {
        let text = "say \"{}\"\n";
        let said = lines(|| {
            tracing::info!(count = 3, rate = 2.5, on = true, %text, who = ?Some("x"), "said {}", text);
        });
        let [line] = &said[..] else { panic!("{said:?}") };
        let time = line["time"].as_str().unwrap();
        assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
        let expected = serde_json::json!({
            "level": 30, "time": time, "service": "ft-claiming-service", "module": "server", "count": 3, "rate": 2.5,
            "on": true, "text": text, "who": "Some(\"x\")", "msg": format!("said {text}"),
        });
        assert_eq!(*line, expected);
    }

    #[test]
    fn levels_are_numbers() {
        let said = lines(|| {
            tracing::trace!("a");
            tracing::debug!("b");
            tracing::info!("c");
            tracing::warn!("d");
            tracing::error!("e");
            tracing::error!(fatal = true, "f");
        });
        let levels: Vec<_> = said.iter().map(|line| line["level"].as_u64().unwrap()).collect();
        assert_eq!(levels, [10, 20, 30, 40, 50, 60]);
        assert_eq!(said[5].get("fatal"), None);
    }

    #[test]
    fn modules_are_parts_of_the_service() {
        for (target, part) in [
            ("keyshard::run", "server"),
            ("keyshard_engine::start", "engine"),
            ("keyshard_rpc::client", "near"),
            ("hyper::proto", "hyper"),
        ] {
            assert_eq!(module(target), part);
        }
    }

    #[test]
    fn an_event_cannot_forge_what_every_line_has() {
        let said = lines(|| tracing::info!(level = 99, msg = "other", module = "x", "real"));
        assert_eq!((&said[0]["level"], &said[0]["msg"]), (&Value::from(30), &Value::from("real")));
        assert_eq!(said[0]["module"], "server");
    }
}
