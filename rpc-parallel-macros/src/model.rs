//! A worker trait as we understand it: plain structs that borrow the syntax.
//!
//! It says what was written, right or wrong; what is wrong with it, `check` finds.

use proc_macro2::Ident;
use syn::{
    Attribute, FnArg, GenericArgument, ItemTrait, Pat, PatType, Path, PathArguments, ReturnType,
    Token, TraitItem, TraitItemFn, Type, TypePath, TypeReference,
};

use crate::args::FunctionArgs;
use crate::errors::Errors;
use crate::head::names_last;
use crate::names;
use crate::pipes::{self, Kind};
use crate::search;

/// A worker trait.
pub(crate) struct Worker<'a> {
    pub(crate) item: &'a ItemTrait,
    pub(crate) name: &'a Ident,
    pub(crate) functions: Vec<Function<'a>>,
}

/// A worker function.
pub(crate) struct Function<'a> {
    pub(crate) item: &'a TraitItemFn,
    /// Its number, in the order in which the functions are written.
    pub(crate) index: usize,
    pub(crate) name: &'a Ident,
    pub(crate) args: FunctionArgs,
    /// Everything after `&self`, in the order in which it is written.
    pub(crate) parameters: Vec<Parameter<'a>>,
    pub(crate) result: Returned<'a>,
}

pub(crate) enum Parameter<'a> {
    /// `cx: &Context<Account>`: supplied by the worker.
    Context(Context<'a>),
    /// Supplied by the caller.
    Argument(Argument<'a>),
}

pub(crate) struct Context<'a> {
    /// Its type without the `&`.
    pub(crate) ty: &'a TypePath,
    pub(crate) mutable: Option<&'a Token![mut]>,
}

pub(crate) struct Argument<'a> {
    pub(crate) syntax: &'a PatType,
    /// The name as written, or one of ours where a pattern is written.
    pub(crate) name: Ident,
    pub(crate) named: bool,
    /// What the dispatch calls its owned value.
    pub(crate) owned: Ident,
    /// The type without the `&`.
    pub(crate) ty: &'a Type,
    pub(crate) borrow: Option<Borrow<'a>>,
    /// What stands in the brackets of `Pipe<..>`: clients give any stream of these.
    pub(crate) elements: Option<&'a Type>,
}

/// `&`, with all that may stand behind it.
pub(crate) struct Borrow<'a> {
    pub(crate) and: &'a Token![&],
    pub(crate) lifetime: Option<&'a syn::Lifetime>,
    pub(crate) mutable: Option<&'a Token![mut]>,
}

/// What a function returns, without the future of an `async fn`.
pub(crate) enum Returned<'a> {
    Nothing,
    Plain(&'a Type),
    /// A `Result`: its error is the function's own.
    Fallible(&'a Type),
}

impl<'a> Worker<'a> {
    pub(crate) fn lower(item: &'a ItemTrait, errors: &mut Errors) -> Worker<'a> {
        let mut functions: Vec<Function> = Vec::new();
        for it in &item.items {
            let TraitItem::Fn(function) = it else { continue };
            let function = Function::lower(functions.len(), function, errors);
            if !functions.iter().any(|it| it.is_repeated_by(&function)) {
                functions.push(function);
            }
        }
        Worker { name: &item.ident, functions, item }
    }

    /// The first context that a function names: it says what a connection holds.
    pub(crate) fn context(&self) -> Option<&Context<'a>> {
        self.functions.iter().find_map(|it| it.contexts().find(|it| it.is_ours()))
    }
}

impl<'a> Function<'a> {
    fn lower(index: usize, item: &'a TraitItemFn, errors: &mut Errors) -> Function<'a> {
        let args = FunctionArgs::parse(&item.attrs, errors);
        let result = Returned::lower(&item.sig.output, args.result);
        let typed = item.sig.inputs.iter().filter_map(|it| match it {
            FnArg::Typed(typed) => Some(typed),
            FnArg::Receiver(_) => None,
        });
        let parameters = typed.enumerate().map(|(index, it)| Parameter::lower(index, it));
        Function {
            item,
            index,
            name: &item.sig.ident,
            args,
            parameters: parameters.collect(),
            result,
        }
    }

    pub(crate) fn is_async(&self) -> bool {
        self.item.sig.asyncness.is_some()
    }

    pub(crate) fn sees_context(&self) -> bool {
        self.contexts().next().is_some()
    }

    pub(crate) fn contexts(&self) -> impl Iterator<Item = &Context<'a>> {
        self.parameters.iter().filter_map(|it| match it {
            Parameter::Context(context) => Some(context),
            Parameter::Argument(_) => None,
        })
    }

    pub(crate) fn arguments(&self) -> impl Iterator<Item = &Argument<'a>> {
        self.parameters.iter().filter_map(|it| match it {
            Parameter::Argument(argument) => Some(argument),
            Parameter::Context(_) => None,
        })
    }

    /// The attributes that say when the function exists.
    pub(crate) fn cfgs(&self) -> impl Iterator<Item = &'a Attribute> + Clone {
        self.item.attrs.iter().filter(|it| it.path().is_ident("cfg"))
    }

    pub(crate) fn is_conditional(&self) -> bool {
        self.cfgs().next().is_some()
    }

    /// Whether `other` declares the same name again, which the compiler reports; `#[cfg]` may
    /// choose between two functions of one name.
    fn is_repeated_by(&self, other: &Function) -> bool {
        self.name == other.name && !(self.is_conditional() && other.is_conditional())
    }

    pub(crate) fn is_deprecated(&self) -> bool {
        self.item.attrs.iter().any(|it| it.path().is_ident("deprecated"))
    }
}

impl<'a> Parameter<'a> {
    fn lower(index: usize, syntax: &'a PatType) -> Parameter<'a> {
        let (ty, borrow) = match ungrouped(&syntax.ty) {
            Type::Reference(reference) => {
                let TypeReference { and_token: and, lifetime, mutability, elem, .. } = reference;
                let (lifetime, mutable) = (lifetime.as_ref(), mutability.as_ref());
                (&**elem, Some(Borrow { and, lifetime, mutable }))
            }
            _ => (&*syntax.ty, None),
        };
        match (ungrouped(ty), borrow) {
            (Type::Path(ty), Some(Borrow { mutable, .. })) if names_last(&ty.path, "Context") => {
                Parameter::Context(Context { ty, mutable })
            }
            (_, borrow) => Parameter::Argument(Argument::lower(index, syntax, ty, borrow)),
        }
    }
}

impl<'a> Context<'a> {
    /// The type in its brackets, if it is written.
    pub(crate) fn state(&self) -> Option<&'a Type> {
        type_arguments(&self.ty.path).first().copied()
    }

    /// Ours has a type and no lifetime, unlike `std::task::Context<'_>`.
    pub(crate) fn is_ours(&self) -> bool {
        search::lifetime(self.ty).is_none()
    }
}

impl<'a> Argument<'a> {
    fn lower(
        index: usize,
        syntax: &'a PatType,
        ty: &'a Type,
        borrow: Option<Borrow<'a>>,
    ) -> Argument<'a> {
        let name = plain_name(&syntax.pat);
        Argument {
            syntax,
            named: name.is_some(),
            name: name.cloned().unwrap_or_else(|| names::argument(index, names::at(&syntax.pat))),
            owned: names::argument(index, names::at(ty)),
            ty,
            elements: if borrow.is_none() { elements_given(ty) } else { None },
            borrow,
        }
    }
}

impl Argument<'_> {
    /// What an argument that is taken by value, though it has no size, could be instead.
    pub(crate) fn owned_instead_of_unsized(&self) -> Option<&'static str> {
        match ungrouped(self.ty) {
            _ if self.borrow.is_some() => None,
            Type::Slice(_) => Some("Vec<..>"),
            Type::Path(path) if path.path.is_ident("str") => Some("String"),
            _ => None,
        }
    }
}

/// What a client may give a stream of, if the type is a pipe.
fn elements_given(ty: &Type) -> Option<&Type> {
    let elements = pipes::whole(ty).filter(|it| it.kind == Kind::Pipe)?.elements;
    // What is wrong with them is said already, and not to be written a second time.
    let wrong = search::word(elements, "impl").or_else(|| search::borrow(elements));
    wrong.is_none().then_some(elements)
}

impl<'a> Returned<'a> {
    fn lower(output: &'a ReturnType, said_fallible: bool) -> Returned<'a> {
        let ReturnType::Type(_, ty) = output else { return Returned::Nothing };
        match ungrouped(ty) {
            Type::Path(path) if names_last(&path.path, "Result") => Returned::Fallible(ty),
            ungrouped if said_fallible && may_be_an_alias(ungrouped) => Returned::Fallible(ty),
            _ => Returned::Plain(ty),
        }
    }

    pub(crate) fn ty(&self) -> Option<&'a Type> {
        match self {
            Returned::Nothing => None,
            Returned::Plain(ty) | Returned::Fallible(ty) => Some(ty),
        }
    }
}

/// The type arguments that are written in the last segment of a path.
pub(crate) fn type_arguments(path: &Path) -> Vec<&Type> {
    let last = path.segments.last().map(|it| &it.arguments);
    let Some(PathArguments::AngleBracketed(written)) = last else { return Vec::new() };
    let types = written.args.iter().filter_map(|it| match it {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    types.collect()
}

/// The type inside parentheses, and inside the invisible ones that `macro_rules!` makes.
pub(crate) fn ungrouped(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => ungrouped(&group.elem),
        Type::Paren(paren) => ungrouped(&paren.elem),
        _ => ty,
    }
}

/// Whether this could be another name of a `Result`. Where we cannot know, the compiler will say.
fn may_be_an_alias(ty: &Type) -> bool {
    let others = "bool char f32 f64 i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize \
                  Box Option String Vec";
    match ty {
        Type::Path(path) => !others.split_whitespace().any(|it| names_last(&path.path, it)),
        _ => false,
    }
}

fn plain_name(pat: &Pat) -> Option<&Ident> {
    match pat {
        Pat::Ident(it) if it.by_ref.is_none() && it.mutability.is_none() && it.subpat.is_none() => {
            Some(&it.ident)
        }
        _ => None,
    }
}
