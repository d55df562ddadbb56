//! The OpenAPI document as a page: one block for each operation, tables of fields, no script.
use std::fmt::Write as _;

use serde_json::{Map, Value};

const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Keyshard API</title>
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --link: light-dark(#0b57d0, #8ab4f8); --mute: light-dark(#555, #aaa) }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 58rem; margin: 0 auto; padding: 1rem 1rem 4rem }
h1 { margin: .5rem 0 } h2 { margin: 2.5rem 0 .5rem; border-bottom: 1px solid var(--line) } h3 { margin: 0; font-size: 1.05rem }
h4 { margin: 1rem 0 .25rem; font-size: .95rem } p { margin: .4rem 0 } a { color: var(--link) }
code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere }
pre { background: var(--soft); padding: .6rem; border-radius: .4rem; overflow-x: auto; font: .85em/1.4 ui-monospace, monospace }
article { border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem; margin: .8rem 0 }
.method { font-weight: 700; margin-right: .5rem } .mute { color: var(--mute); font-weight: 400 } nav a { margin-right: 1rem; white-space: nowrap }
.table { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-top: 1px solid var(--line) } th { font-weight: 600 } th code { white-space: nowrap }
</style>
</head>
<body>
"#;

/// The whole page.
pub(super) fn of(document: &Value) -> String {
    let mut page = Page { document, text: HEAD.to_owned() };
    page.write();
    page.text
}

struct Page<'a> {
    document: &'a Value,
    text: String,
}

impl<'a> Page<'a> {
    fn write(&mut self) {
        let info = &self.document["info"];
        self.put(&format!(
            "<header><h1>{} API <span class=\"mute\">{}</span></h1>",
            text(info, "title"),
            text(info, "version")
        ));
        self.prose(&info["summary"]);
        self.prose(&info["description"]);
        self.put("<p>For programs: <a href=\"/openapi.json\">/openapi.json</a> (OpenAPI 3.1).</p><nav aria-label=\"Parts\"><p>");
        let tags: Vec<&Value> = list(&self.document["tags"]).collect();
        for tag in &tags {
            self.put(&format!("<a href=\"#tag-{0}\">{0}</a> ", text(tag, "name")));
        }
        self.put("<a href=\"#webhooks\">webhooks</a> <a href=\"#schemas\">schemas</a></p></nav></header>\n<main>\n");
        for tag in tags {
            let name = text(tag, "name");
            self.put(&format!("<section><h2 id=\"tag-{name}\">{name}</h2>"));
            self.prose(&tag["description"]);
            for (path, operations) in fields(&self.document["paths"]) {
                for (method, operation) in fields(operations) {
                    if list(&operation["tags"]).any(|tag| tag == name.as_str()) {
                        self.operation(path, method, operation);
                    }
                }
            }
            self.put("</section>\n");
        }
        self.put("<section><h2 id=\"webhooks\">webhooks</h2><p>What the service sends.</p>");
        for (name, operations) in fields(&self.document["webhooks"]) {
            for (method, operation) in fields(operations) {
                self.operation(name, method, operation);
            }
        }
        self.put("</section>\n<section><h2 id=\"schemas\">schemas</h2>");
        for (name, schema) in fields(&self.document["components"]["schemas"]) {
            self.put(&format!("<article id=\"schema-{name}\"><h3><code>{name}</code></h3>"));
            if schema.get("properties").is_none() {
                self.put(&format!("<p>{}</p>", kind(schema)));
            }
            self.prose(&schema["description"]);
            self.properties(schema);
            self.put("</article>\n");
        }
        self.put("</section>\n</main>\n</body>\n</html>\n");
    }

    fn operation(&mut self, path: &str, method: &str, operation: &'a Value) {
        let method = method.to_uppercase();
        let id = text(operation, "operationId");
        self.put(&format!(
            "<article id=\"op-{id}\"><h3><span class=\"method\">{method}</span><code>{}</code></h3><p><strong>{}</strong></p>",
            escape(path),
            inline(&text(operation, "summary")),
        ));
        self.prose(&operation["description"]);
        let parameters: Vec<&Value> = list(&operation["parameters"]).map(|parameter| self.follow(parameter)).collect();
        if !parameters.is_empty() {
            self.put("<h4>Parameters</h4><div class=\"table\"><table>");
            for parameter in parameters {
                let place = text(parameter, "in");
                let needed = if parameter["required"] == true { ", required" } else { "" };
                let name = text(parameter, "name");
                let about = inline(&text(parameter, "description"));
                let kind = kind(&parameter["schema"]);
                self.put(&format!(
                    "<tr><th scope=\"row\"><code>{name}</code><br><span class=\"mute\">{place}{needed}</span></th><td>{kind}<br>{about}</td></tr>"
                ));
            }
            self.put("</table></div>");
        }
        if let Some(body) = operation.get("requestBody") {
            self.put("<h4>Body</h4>");
            self.prose(&body["description"]);
            self.content(&body["content"]);
        }
        self.put("<h4>Answers</h4><div class=\"table\"><table>");
        for (status, response) in fields(&operation["responses"]) {
            let response = self.follow(response);
            let about = inline(&text(response, "description"));
            self.put(&format!("<tr><th scope=\"row\">{status}</th><td>{about} "));
            self.content(&response["content"]);
            for (name, header) in fields(&response["headers"]) {
                let about = inline(&text(self.follow(header), "description"));
                self.put(&format!("<p><code>{name}</code>: {about}</p>"));
            }
            self.put("</td></tr>");
        }
        self.put("</table></div></article>\n");
    }

    fn content(&mut self, content: &Value) {
        for (mime, body) in fields(content) {
            self.put(&format!("<p><span class=\"mute\">{}</span> {}</p>", escape(mime), kind(&body["schema"])));
            let several = fields(&body["examples"]).map(|(_, example)| &example["value"]);
            for example in body.get("example").into_iter().chain(several) {
                let shown = serde_json::to_string_pretty(example).unwrap_or_default();
                self.put(&format!("<pre tabindex=\"0\">{}</pre>", escape(&shown)));
            }
        }
    }

    fn properties(&mut self, schema: &Value) {
        let needed: Vec<&Value> = list(&schema["required"]).collect();
        let mut properties = fields(&schema["properties"]).peekable();
        if properties.peek().is_none() {
            return;
        }
        self.put("<div class=\"table\"><table>");
        for (name, property) in properties {
            let optional = if needed.iter().any(|needed| *needed == name) {
                ""
            } else {
                "<br><span class=\"mute\">may be absent</span>"
            };
            let about = inline(&text(property, "description"));
            let kind = kind(property);
            self.put(&format!(
                "<tr><th scope=\"row\"><code>{name}</code>{optional}</th><td>{kind}<br>{about}</td></tr>"
            ));
        }
        self.put("</table></div>");
    }

    /// What a reference leads to, or the thing itself.
    fn follow(&self, value: &'a Value) -> &'a Value {
        let target = value.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
        target.and_then(|pointer| self.document.pointer(pointer)).unwrap_or(value)
    }

    fn prose(&mut self, value: &Value) {
        for paragraph in value.as_str().unwrap_or_default().split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
            self.put(&format!("<p>{}</p>", inline(paragraph)));
        }
    }

    fn put(&mut self, html: &str) {
        self.text.push_str(html);
    }
}

/// What a value may be, as HTML.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        return format!("<a href=\"#schema-{name}\">{name}</a>");
    }
    for (name, word) in [("oneOf", " or "), ("anyOf", " or ")] {
        if schema.get(name).is_some() {
            return list(&schema[name]).map(kind).collect::<Vec<_>>().join(word);
        }
    }
    let mut html = String::new();
    if let Some(only) = schema.get("const") {
        let _ = write!(html, "<code>{}</code>", escape(&plain(only)));
    } else if schema.get("enum").is_some() {
        let values = list(&schema["enum"]).map(|value| format!("<code>{}</code>", escape(&plain(value))));
        html += &values.collect::<Vec<_>>().join(", ");
    } else if schema["type"] == "array" {
        let _ = write!(html, "array of {}", kind(&schema["items"]));
    } else if let (Some(_), None) = (schema.get("properties"), schema.get("$ref")) {
        let names = fields(&schema["properties"])
            .map(|(name, value)| format!("<code>{}</code>: {}", escape(name), kind(value)));
        let _ = write!(html, "object of {}", names.collect::<Vec<_>>().join(", "));
    } else {
        let types: Vec<String> = match &schema["type"] {
            Value::Array(types) => types.iter().map(plain).collect(),
            other => vec![plain(other)],
        };
        html += &types.join(" or ");
    }
    for (name, word) in [
        ("format", ""),
        ("pattern", ""),
        ("minimum", "at least "),
        ("maximum", "at most "),
        ("minLength", "length at least "),
        ("maxLength", "length at most "),
        ("maxItems", "at most so many: "),
        ("default", "default "),
    ] {
        if let Some(value) = schema.get(name) {
            let _ = write!(html, " <span class=\"mute\">{word}<code>{}</code></span>", escape(&plain(value)));
        }
    }
    html
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

/// Text with `code` in it.
fn inline(text: &str) -> String {
    let mut html = String::new();
    for (index, part) in text.split('`').enumerate() {
        let part = escape(part);
        let _ = if index % 2 == 1 { write!(html, "<code>{part}</code>") } else { write!(html, "{part}") };
    }
    html
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
