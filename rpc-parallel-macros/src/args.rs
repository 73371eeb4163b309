//! What stands in the brackets of our attributes.
//!
//! All of them share one grammar, `name`, `name = value` and `name(..)`; each takes the names it
//! knows, and whatever is left is a mistake.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, Ident, LitStr, Meta, Path, Token, parenthesized, token};

use crate::errors::Errors;
use crate::head::names_last;
use crate::mistakes;
use crate::names::Facade;

/// `#[worker(..)]` on a trait.
pub(crate) struct TraitArgs {
    pub(crate) facade: Facade,
}

impl TraitArgs {
    const POSSIBLE: &'static [&'static str] = &["crate = path"];

    pub(crate) fn parse(args: TokenStream, errors: &mut Errors) -> TraitArgs {
        let mut settings = Settings::parse(args, errors);
        let facade = settings.facade(errors);
        if let Some(id) = settings.take("id", errors) {
            errors.add(id.name, mistakes::id_on_a_trait());
        }
        settings.finish("`#[worker]` on a trait", Self::POSSIBLE, errors);
        TraitArgs { facade }
    }
}

/// `#[worker(..)]` on an impl.
pub(crate) struct ImplArgs {
    pub(crate) facade: Facade,
    pub(crate) client: Option<Path>,
    pub(crate) id: Option<LitStr>,
}

impl ImplArgs {
    const POSSIBLE: &'static [&'static str] = &["client = path", "id = \"..\"", "crate = path"];

    pub(crate) fn parse(args: TokenStream, errors: &mut Errors) -> ImplArgs {
        let mut settings = Settings::parse(args, errors);
        let args = ImplArgs {
            facade: settings.facade(errors),
            client: settings.path("client", errors),
            id: settings.id(errors),
        };
        settings.finish("`#[worker]` on an impl", Self::POSSIBLE, errors);
        args
    }
}

/// `#[worker(..)]` on a function of a trait.
#[derive(Default)]
pub(crate) struct FunctionArgs {
    pub(crate) id: Option<LitStr>,
    /// The result is a `Result` by another name.
    pub(crate) result: bool,
    /// Callers wait for no answer.
    pub(crate) one_way: bool,
    /// Callers that give up do not stop it. The word itself, to be underlined where it may not be.
    pub(crate) no_cancel: Option<Ident>,
}

impl FunctionArgs {
    const POSSIBLE: &'static [&'static str] = &["id = \"..\"", "result", "one_way", "no_cancel"];

    pub(crate) fn parse(attrs: &[Attribute], errors: &mut Errors) -> FunctionArgs {
        let mut settings = Settings::of_attributes(attrs, "worker", errors);
        let args = FunctionArgs {
            id: settings.id(errors),
            result: settings.flag("result", errors).is_some(),
            one_way: settings.flag("one_way", errors).is_some(),
            no_cancel: settings.flag("no_cancel", errors),
        };
        settings.finish("`#[worker]` on a function", Self::POSSIBLE, errors);
        args
    }
}

/// `#[worker_state(..)]` beside `#[derive(WorkerState)]`.
pub(crate) struct StateArgs {
    pub(crate) facade: Facade,
}

impl StateArgs {
    const POSSIBLE: &'static [&'static str] = &["crate = path"];

    pub(crate) fn parse(attrs: &[Attribute], errors: &mut Errors) -> StateArgs {
        let mut settings = Settings::of_attributes(attrs, "worker_state", errors);
        let facade = settings.facade(errors);
        settings.finish("`#[worker_state]`", Self::POSSIBLE, errors);
        StateArgs { facade }
    }
}

/// `#[entry(..)]` and `#[test(..)]`.
pub(crate) struct EntryArgs {
    pub(crate) facade: Facade,
    pub(crate) runtime: Runtime,
    pub(crate) worker_runtime: Runtime,
    pub(crate) settings: Option<Expr>,
    pub(crate) worker_logs: Option<Expr>,
}

impl EntryArgs {
    const POSSIBLE: &'static [&'static str] = &[
        "flavor = \"..\"",
        "threads = number",
        "worker(flavor = \"..\", threads = number)",
        "settings = value",
        "worker_logs = bool",
        "crate = path",
    ];

    pub(crate) fn parse(args: TokenStream, on: &str, errors: &mut Errors) -> EntryArgs {
        let mut settings = Settings::parse(args, errors);
        let args = EntryArgs {
            facade: settings.facade(errors),
            runtime: Runtime::take(&mut settings, errors),
            worker_runtime: Runtime::take_nested(&mut settings, errors),
            worker_logs: settings.value("worker_logs", "`true` or `false`", errors),
            settings: settings.value("settings", "a value of type `Settings`", errors),
        };
        settings.finish(on, Self::POSSIBLE, errors);
        args
    }
}

/// `flavor = .., threads = ..`
#[derive(Default)]
pub(crate) struct Runtime {
    pub(crate) flavor: Option<RuntimeFlavor>,
    /// The names of what was set, to be underlined where nothing may be set.
    pub(crate) written: Vec<Ident>,
}

pub(crate) enum RuntimeFlavor {
    CurrentThread,
    MultiThread { threads: Option<Expr> },
}

impl Runtime {
    const POSSIBLE: &'static [&'static str] = &["flavor = \"..\"", "threads = number"];

    fn take(settings: &mut Settings, errors: &mut Errors) -> Runtime {
        let names = settings.0.iter().map(|it| it.name.clone());
        let written: Vec<_> = names.filter(|it| it == "flavor" || it == "threads").collect();
        let flavor = settings.string("flavor", errors);
        let threads = settings.value("threads", "a number of threads", errors);
        let flavor = match flavor.map(|it| (it.value(), it)) {
            Some((name, _)) if name == "multi_thread" => {
                Some(RuntimeFlavor::MultiThread { threads })
            }
            Some((name, literal)) if name != "current_thread" => {
                errors.add(literal, mistakes::flavor_unknown(&name));
                None
            }
            current_thread => {
                if let Some(name) = written.iter().find(|it| *it == "threads") {
                    errors.add(name, mistakes::threads_without_multi_thread());
                }
                current_thread.map(|_| RuntimeFlavor::CurrentThread)
            }
        };
        Runtime { flavor, written }
    }

    fn take_nested(settings: &mut Settings, errors: &mut Errors) -> Runtime {
        let mut nested = settings.list("worker", errors);
        let runtime = Runtime::take(&mut nested, errors);
        nested.finish("`worker(..)`", Self::POSSIBLE, errors);
        runtime
    }
}

/// Settings not yet taken.
#[derive(Default)]
struct Settings(Vec<Setting>);

struct Setting {
    name: Ident,
    value: Value,
}

enum Value {
    None,
    One(Expr),
    List(Settings),
}

impl Parse for Settings {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let settings = Punctuated::<Setting, Token![,]>::parse_terminated(input)?;
        Ok(Settings(settings.into_iter().collect()))
    }
}

impl Parse for Setting {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let name = input.call(Ident::parse_any)?;
        let value = if input.peek(Token![=]) {
            input.parse::<Token![=]>()?;
            Value::One(input.parse()?)
        } else if input.peek(token::Paren) {
            let list;
            parenthesized!(list in input);
            Value::List(list.parse()?)
        } else {
            Value::None
        };
        Ok(Setting { name, value })
    }
}

impl ToTokens for Setting {
    /// What to underline if the value is wrong.
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match &self.value {
            Value::One(value) => value.to_tokens(tokens),
            Value::None | Value::List(_) => self.name.to_tokens(tokens),
        }
    }
}

impl Settings {
    fn parse(args: TokenStream, errors: &mut Errors) -> Settings {
        errors.absorb(syn::parse2(args)).unwrap_or_default()
    }

    /// The settings of all the attributes called `name`.
    fn of_attributes(attrs: &[Attribute], name: &str, errors: &mut Errors) -> Settings {
        let mut settings = Settings::default();
        for attr in attrs.iter().filter(|it| names_last(it.path(), name)) {
            if let Meta::Path(_) = attr.meta {
                continue;
            }
            let parsed: Settings = errors.absorb(attr.parse_args()).unwrap_or_default();
            settings.0.extend(parsed.0);
        }
        settings
    }

    /// Takes the first setting called `name`; a second one is a mistake.
    fn take(&mut self, name: &str, errors: &mut Errors) -> Option<Setting> {
        let mut found = None;
        for setting in self.0.extract_if(.., |it| it.name == name) {
            match found {
                None => found = Some(setting),
                Some(_) => errors.add(setting.name, mistakes::argument_twice(name)),
            }
        }
        found
    }

    fn value(&mut self, name: &str, form: &str, errors: &mut Errors) -> Option<Expr> {
        match self.take(name, errors)? {
            Setting { value: Value::One(value), .. } => Some(value),
            setting => {
                errors.add(&setting, mistakes::argument_malformed(name, form));
                None
            }
        }
    }

    fn string(&mut self, name: &str, errors: &mut Errors) -> Option<LitStr> {
        let value = self.value(name, "a string", errors)?;
        let literal = syn::parse2(value.to_token_stream()).ok();
        if literal.is_none() {
            errors.add(value, mistakes::argument_malformed(name, "a string"));
        }
        literal
    }

    fn path(&mut self, name: &str, errors: &mut Errors) -> Option<Path> {
        let value = self.value(name, "a path", errors)?;
        let path = Path::parse_mod_style.parse2(value.to_token_stream()).ok();
        if path.is_none() {
            errors.add(value, mistakes::argument_malformed(name, "a path"));
        }
        path
    }

    /// Takes a word that stands alone.
    fn flag(&mut self, name: &str, errors: &mut Errors) -> Option<Ident> {
        let setting = self.take(name, errors)?;
        if !matches!(setting.value, Value::None) {
            errors.add(&setting, mistakes::flag_with_value(name));
        }
        Some(setting.name)
    }

    fn list(&mut self, name: &str, errors: &mut Errors) -> Settings {
        match self.take(name, errors) {
            None => Settings::default(),
            Some(Setting { value: Value::List(list), .. }) => list,
            Some(setting) => {
                errors.add(&setting, mistakes::argument_malformed(name, "a list"));
                Settings::default()
            }
        }
    }

    fn facade(&mut self, errors: &mut Errors) -> Facade {
        Facade::new(self.path("crate", errors))
    }

    fn id(&mut self, errors: &mut Errors) -> Option<LitStr> {
        let id = self.string("id", errors)?;
        if id.value().is_empty() {
            errors.add(&id, mistakes::id_empty());
        }
        Some(id)
    }

    /// Reports what nobody took.
    fn finish(self, on: &str, possible: &[&str], errors: &mut Errors) {
        for Setting { name, .. } in self.0 {
            let mistake = mistakes::argument_unknown(&name.unraw().to_string(), on, possible);
            errors.add(name, mistake);
        }
    }
}
