//! The part of the Task Scheduler schema (`https://learn.microsoft.com/windows/win32/taskschd/task-scheduler-schema`) that a
//! task of ours may use: which elements, inside which, how often, with which values.

use roxmltree::{Document, Node};

const NAMESPACE: &str = "http://schemas.microsoft.com/windows/2004/02/mit/task";

enum Content {
    /// Elements; `true` after a name: it must be there. In a sequence, the order is the schema's.
    All(&'static [(&'static str, bool)]),
    Sequence(&'static [(&'static str, bool)]),
    Boolean,
    OneOf(&'static [&'static str]),
    /// A duration of at least so many minutes; 0 also allows `PT0S`, no limit.
    Duration(u32),
    Count,
    Text,
}

fn content(element: &str) -> Content {
    match element {
        "Task" => Content::All(&[
            ("RegistrationInfo", false),
            ("Triggers", false),
            ("Principals", false),
            ("Settings", false),
            ("Actions", true),
        ]),
        "RegistrationInfo" => Content::All(&[("Description", false), ("Author", false), ("URI", false)]),
        "Triggers" => Content::All(&[("LogonTrigger", false)]),
        "LogonTrigger" => Content::Sequence(&[
            ("Enabled", false),
            ("StartBoundary", false),
            ("EndBoundary", false),
            ("ExecutionTimeLimit", false),
            ("UserId", false),
            ("Delay", false),
        ]),
        "Principals" => Content::All(&[("Principal", true)]),
        "Principal" => Content::All(&[("UserId", false), ("LogonType", false), ("RunLevel", false)]),
        "LogonType" => Content::OneOf(&["S4U", "Password", "InteractiveToken", "InteractiveTokenOrPassword"]),
        "RunLevel" => Content::OneOf(&["LeastPrivilege", "HighestAvailable"]),
        "Settings" => Content::All(&[
            ("MultipleInstancesPolicy", false),
            ("DisallowStartIfOnBatteries", false),
            ("StopIfGoingOnBatteries", false),
            ("AllowHardTerminate", false),
            ("StartWhenAvailable", false),
            ("Enabled", false),
            ("Hidden", false),
            ("ExecutionTimeLimit", false),
            ("Priority", false),
            ("RestartOnFailure", false),
        ]),
        "MultipleInstancesPolicy" => Content::OneOf(&["Parallel", "Queue", "IgnoreNew", "StopExisting"]),
        "RestartOnFailure" => Content::All(&[("Interval", true), ("Count", true)]),
        "Interval" => Content::Duration(1),
        "ExecutionTimeLimit" | "Delay" => Content::Duration(0),
        "Count" => Content::Count,
        "Actions" => Content::All(&[("Exec", true)]),
        "Exec" => Content::All(&[("Command", true), ("Arguments", false), ("WorkingDirectory", false)]),
        "Enabled"
        | "DisallowStartIfOnBatteries"
        | "StopIfGoingOnBatteries"
        | "AllowHardTerminate"
        | "StartWhenAvailable"
        | "Hidden" => Content::Boolean,
        "Description" | "Author" | "URI" | "UserId" | "Command" | "Arguments" | "WorkingDirectory" => Content::Text,
        other => panic!("`{other}` is no element of the schema that a task of ours may use"),
    }
}

/// Panics where the document does not conform.
pub(super) fn check(document: &Document<'_>) {
    let task = document.root_element();
    assert_eq!(task.tag_name().name(), "Task");
    assert_eq!(task.attribute("version"), Some("1.2"));
    check_element(task);
    let id = |name: &str, attribute: &str| {
        let node = document.descendants().find(|node| node.tag_name().name() == name);
        node.unwrap().attribute(attribute).map(str::to_owned)
    };
    assert_eq!(
        id("Actions", "Context"),
        id("Principal", "id"),
        "the context of the actions is a principal"
    );
}

fn check_element(element: Node<'_, '_>) {
    let name = element.tag_name().name();
    assert_eq!(element.tag_name().namespace(), Some(NAMESPACE), "{name}");
    let children: Vec<_> = element.children().filter(Node::is_element).collect();
    let names: Vec<_> = children.iter().map(|child| child.tag_name().name()).collect();
    let text = element.text().unwrap_or_default();
    match content(name) {
        Content::All(allowed) => check_children(name, &names, allowed),
        Content::Sequence(allowed) => {
            check_children(name, &names, allowed);
            let places: Vec<_> = names
                .iter()
                .map(|name| allowed.iter().position(|(child, _)| child == name))
                .collect();
            assert!(places.is_sorted(), "{names:?} in {name} are out of order");
        }
        Content::Boolean => assert!(matches!(text, "true" | "false"), "{name}: {text}"),
        Content::OneOf(values) => assert!(values.contains(&text), "{name}: {text}"),
        Content::Duration(minimum) => assert!(is_duration(text, minimum), "{name}: {text}"),
        Content::Count => assert!((1..=255).contains(&text.parse::<u32>().unwrap()), "{name}: {text}"),
        Content::Text => assert!(names.is_empty() && !text.is_empty(), "{name}: {text}"),
    }
    children.into_iter().for_each(check_element);
}

fn check_children(parent: &str, names: &[&str], allowed: &[(&str, bool)]) {
    for name in names {
        assert!(
            allowed.iter().any(|(child, _)| child == name),
            "{name} may not be in {parent}"
        );
        assert_eq!(
            names.iter().filter(|other| *other == name).count(),
            1,
            "{name} is twice in {parent}"
        );
    }
    for (child, required) in allowed {
        assert!(!required || names.contains(child), "{child} is missing from {parent}");
    }
}

fn is_duration(text: &str, minimum: u32) -> bool {
    let minutes = text
        .strip_prefix("PT")
        .and_then(|rest| rest.strip_suffix('M')?.parse::<u32>().ok());
    minutes.is_some_and(|minutes| minutes >= minimum) || (minimum == 0 && text == "PT0S")
}
