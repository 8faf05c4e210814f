//! How a Grafana dashboard is written down: the few facts that differ between panels become the JSON that Grafana reads.

use serde_json::{Value, json};

/// The version of the JSON that Grafana 11 writes; 10 reads it, too.
const SCHEMA: u32 = 39;

/// Grafana's grid.
const WIDTH: u32 = 24;

/// One dashboard.
#[derive(Debug)]
pub(super) struct Dashboard {
    /// Its file, without ending, and with a prefix its identifier.
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// Which question it answers.
    pub(super) question: &'static str,
    /// A variable's name and the metric whose label of that name gives its values.
    pub(super) variable: Option<(&'static str, &'static str)>,
    pub(super) panels: &'static [Panel],
}

/// How a panel looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// A number, or a few.
    Stat,
    /// What a label says.
    Name,
    /// Lines over time.
    Lines,
    /// Areas on top of each other: parts of a whole.
    Stack,
    /// A row per value of a label, which is the first column and leads to a dashboard of that name.
    Table(&'static str),
}

impl Look {
    fn is_small(self) -> bool {
        matches!(self, Look::Stat | Look::Name)
    }
}

/// One panel.
#[derive(Debug)]
pub(super) struct Panel {
    pub(super) title: &'static str,
    /// What it says, and what to do about it.
    pub(super) why: &'static str,
    pub(super) look: Look,
    /// Grafana's name of the unit.
    pub(super) unit: &'static str,
    pub(super) width: u32,
    /// Expression, legend or column, and a column's own unit.
    pub(super) queries: &'static [(&'static str, &'static str, &'static str)],
    /// From which value on it is yellow, and red.
    pub(super) steps: Option<(f64, f64)>,
    /// Words and colours instead of values.
    pub(super) words: &'static [(&'static str, &'static str, &'static str)],
    /// The highest value, where there is one.
    pub(super) max: Option<f64>,
}

/// What most panels have in common.
pub(super) const PANEL: Panel = Panel {
    title: "",
    why: "",
    look: Look::Lines,
    unit: "short",
    width: 12,
    queries: &[],
    steps: None,
    words: &[],
    max: None,
};

/// A number of the first row.
pub(super) const STAT: Panel = Panel { look: Look::Stat, width: 4, ..PANEL };

fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

impl Dashboard {
    /// Its identifier in links.
    fn uid(&self) -> String {
        format!("trimtab-{}", self.name)
    }

    /// The file's content.
    pub(super) fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(&self.json()).unwrap_or_default();
        text.push('\n');
        text
    }

    fn json(&self) -> Value {
        let (mut x, mut y, mut tall) = (0, 0, 0);
        let mut panels = Vec::new();
        for (id, panel) in (1..).zip(self.panels) {
            if x + panel.width > WIDTH {
                (x, y, tall) = (0, y + tall, 0);
            }
            let height = if panel.look.is_small() { 4 } else { 9 };
            panels.push(panel.json(id, &json!({ "x": x, "y": y, "w": panel.width, "h": height })));
            (x, tall) = (x + panel.width, tall.max(height));
        }
        json!({
            "uid": self.uid(),
            "title": self.title,
            "description": self.question,
            "tags": ["trimtab"],
            "schemaVersion": SCHEMA,
            "version": 1,
            "editable": true,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": { "from": "now-6h", "to": "now" },
            "timezone": "",
            "annotations": { "list": [] },
            "links": [{
                "type": "dashboards", "title": "Trimtab", "tags": ["trimtab"], "asDropdown": false,
                "includeVars": true, "keepTime": true, "targetBlank": false, "icon": "external link",
                "tooltip": "", "url": "",
            }],
            "templating": { "list": self.variables() },
            "panels": panels,
        })
    }

    fn variables(&self) -> Vec<Value> {
        let mut all = vec![json!({
            "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus",
            "regex": "", "refresh": 1, "hide": 0, "multi": false, "includeAll": false, "current": {}, "options": [],
        })];
        all.extend(self.variable.map(|(name, metric)| {
            let query = format!("label_values({metric}, {name})");
            json!({
                "name": name, "label": capital(name), "type": "query", "datasource": source(),
                "definition": query,
                "query": { "qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery" },
                "regex": "", "refresh": 2, "sort": 1, "hide": 0, "multi": false, "includeAll": false,
                "current": {}, "options": [],
            })
        }));
        all
    }
}

fn capital(name: &str) -> String {
    let (first, rest) = name.split_at(1);
    first.to_uppercase() + rest
}

impl Panel {
    fn json(&self, id: u32, at: &Value) -> Value {
        let instant = self.look.is_small() || matches!(self.look, Look::Table(_));
        let format = if matches!(self.look, Look::Table(_)) { "table" } else { "time_series" };
        let targets = self.queries.iter().zip('A'..='Z').map(|((expr, legend, _), id)| {
            json!({
                "refId": id.to_string(), "datasource": source(), "editorMode": "code", "expr": expr,
                "legendFormat": legend, "format": format, "instant": instant, "range": !instant,
            })
        });
        let mut panel = json!({
            "id": id,
            "type": match self.look { Look::Stat | Look::Name => "stat", Look::Table(_) => "table", _ => "timeseries" },
            "title": self.title,
            "description": self.why,
            "datasource": source(),
            "gridPos": at,
            "targets": targets.collect::<Vec<_>>(),
            "fieldConfig": { "defaults": self.defaults(), "overrides": self.overrides() },
            "options": self.options(),
        });
        if let Look::Table(label) = self.look {
            panel["transformations"] = self.transformations(label);
        }
        panel
    }

    fn defaults(&self) -> Value {
        let mut steps = vec![json!({ "color": "green", "value": null })];
        if let Some((yellow, red)) = self.steps {
            steps.push(json!({ "color": "yellow", "value": yellow }));
            steps.push(json!({ "color": "red", "value": red }));
        }
        let words = self.words.iter().zip(0..).map(|((value, text, color), index)| {
            ((*value).to_owned(), json!({ "text": text, "color": color, "index": index }))
        });
        let words: serde_json::Map<String, Value> = words.collect();
        let mappings =
            if words.is_empty() { json!([]) } else { json!([{ "type": "value", "options": words }]) };
        let mut defaults = json!({
            "unit": self.unit,
            "noValue": "unknown",
            "mappings": mappings,
            "thresholds": { "mode": "absolute", "steps": steps },
        });
        if let Some(max) = self.max {
            defaults["max"] = json!(max);
        }
        if matches!(self.look, Look::Lines | Look::Stack) {
            let stack = if self.look == Look::Stack { "normal" } else { "none" };
            let shown = if self.steps.is_some() { "line" } else { "off" };
            defaults["min"] = json!(0);
            defaults["color"] = json!({ "mode": "palette-classic" });
            defaults["custom"] = json!({
                "drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1, "spanNulls": false,
                "showPoints": "never", "fillOpacity": if self.look == Look::Stack { 40 } else { 0 },
                "stacking": { "mode": stack, "group": "A" }, "thresholdsStyle": { "mode": shown },
            });
        } else {
            defaults["color"] = json!({ "mode": "thresholds" });
        }
        defaults
    }

    fn options(&self) -> Value {
        match self.look {
            Look::Stat | Look::Name => json!({
                "colorMode": "value", "graphMode": "none", "justifyMode": "auto", "orientation": "auto",
                "textMode": if self.look == Look::Name { "name" } else { "auto" },
                "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
            }),
            Look::Table(_) => json!({ "showHeader": true, "cellHeight": "sm", "footer": { "show": false } }),
            Look::Lines | Look::Stack => json!({
                "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": [] },
                "tooltip": { "mode": "multi", "sort": "desc" },
            }),
        }
    }

    /// Columns' own units, and where a row leads.
    fn overrides(&self) -> Vec<Value> {
        let Look::Table(label) = self.look else { return Vec::new() };
        let by = |name: &str, id: &str, value: Value| json!({ "matcher": { "id": "byName", "options": name }, "properties": [{ "id": id, "value": value }] });
        let url = format!(
            "/d/trimtab-{label}?${{datasource:queryparam}}&var-{label}=${{__value.raw}}&${{__url_time_range}}"
        );
        let link = json!([{ "title": format!("This {label}"), "url": url, "targetBlank": false }]);
        let mut all = vec![by(label, "links", link)];
        let own = self.queries.iter().filter(|(_, _, unit)| !unit.is_empty());
        all.extend(own.map(|(_, column, unit)| by(column, "unit", json!(unit))));
        all
    }

    /// One row per value of the label, with a column for each query.
    fn transformations(&self, label: &str) -> Value {
        let names = self.queries.iter().zip('A'..='Z');
        let names: serde_json::Map<String, Value> =
            names.map(|((_, column, _), id)| (format!("Value #{id}"), json!(column))).collect();
        let times = (1..=self.queries.len()).map(|n| (format!("Time {n}"), json!(true)));
        let hidden: serde_json::Map<String, Value> =
            times.chain([("Time".to_owned(), json!(true))]).collect();
        json!([
            { "id": "joinByField", "options": { "byField": label, "mode": "outer" } },
            { "id": "organize", "options": { "excludeByName": hidden, "renameByName": names, "indexByName": {} } },
        ])
    }
}
