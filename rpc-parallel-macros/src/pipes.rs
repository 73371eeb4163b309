//! Finds pipes in types by their names.
//!
//! A type counts as a pipe if its path ends in `Pipe<T>` or `PipeWriter<T>` with one type argument.
//! A macro cannot resolve names. If the type is another one of that name, rustc reports it.

use syn::{GenericArgument, Ident, PathArguments, Type, TypePath};

use crate::type_parts::{type_arguments, ungrouped};

/// `Pipe<T>` or `PipeWriter<T>`.
pub(crate) struct Written<'a> {
    pub(crate) kind: Kind,
    pub(crate) name: &'a Ident,
    pub(crate) elements: &'a Type,
}

#[derive(PartialEq)]
pub(crate) enum Kind {
    Pipe,
    Writer,
}

/// Returns the pipe, if the whole type is one.
pub(crate) fn whole(ty: &Type) -> Option<Written<'_>> {
    let Type::Path(TypePath { qself: None, path, .. }) = ungrouped(ty) else { return None };
    let last = path.segments.last()?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    let mut arguments = arguments.args.iter();
    let (Some(GenericArgument::Type(elements)), None) = (arguments.next(), arguments.next()) else {
        return None;
    };
    let name = &last.ident;
    let kinds = [("Pipe", Kind::Pipe), ("PipeWriter", Kind::Writer)];
    let (_, kind) = kinds.into_iter().find(|(it, _)| name == it)?;
    Some(Written { kind, name, elements })
}

/// Returns the first pipe of `ty` that carries a pipe, and the pipe that it carries.
pub(crate) fn nested(ty: &Type) -> Option<(Written<'_>, Written<'_>)> {
    within(ty).into_iter().find_map(|outer| {
        let inner = within(outer.elements).into_iter().next()?;
        Some((outer, inner))
    })
}

/// Returns all pipes in a type, each before those that it carries.
pub(crate) fn within(ty: &Type) -> Vec<Written<'_>> {
    let mut found = Vec::new();
    collect(ty, &mut found);
    found
}

fn collect<'a>(ty: &'a Type, found: &mut Vec<Written<'a>>) {
    found.extend(whole(ty));
    match ungrouped(ty) {
        Type::Array(array) => collect(&array.elem, found),
        Type::Slice(slice) => collect(&slice.elem, found),
        Type::Reference(reference) => collect(&reference.elem, found),
        Type::Tuple(tuple) => tuple.elems.iter().for_each(|it| collect(it, found)),
        Type::Path(path) => type_arguments(&path.path).iter().for_each(|it| collect(it, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proc_macro2::TokenStream;
    use quote::{ToTokens, quote};

    use super::*;

    fn found_in(ty: TokenStream) -> Vec<String> {
        let ty = syn::parse2(ty).expect("the tokens are a type");
        let found = within(&ty).into_iter();
        found.map(|it| format!("{} of {}", it.name, it.elements.to_token_stream())).collect()
    }

    #[test]
    fn end_of_path_identifies_pipe() {
        assert_eq!(found_in(quote!(Pipe<u64>)), ["Pipe of u64"]);
        assert_eq!(found_in(quote!((rpc_parallel::Pipe::<u64>))), ["Pipe of u64"]);
    }

    #[test]
    fn pipes_inside_other_types_are_found() {
        let found = found_in(quote!(Result<&[(u8, Option<[PipeWriter<u8>; 2]>)], Pipe<Pipe<u8>>>));

        assert_eq!(found, ["PipeWriter of u8", "Pipe of Pipe < u8 >", "Pipe of u8"]);
    }

    #[test]
    fn pipe_inside_pipe_is_nested() {
        let nested_in = |ty| {
            let ty = syn::parse2(ty).expect("the tokens are a type");
            nested(&ty).map(|(outer, inner)| format!("{} in {}", inner.name, outer.name))
        };

        let found = nested_in(quote!(Result<Vec<Pipe<Option<PipeWriter<u8>>>>, Error>));
        assert_eq!(found.as_deref(), Some("PipeWriter in Pipe"));
        assert_eq!(nested_in(quote!((Pipe<u8>, Vec<PipeWriter<u8>>))), None);
    }

    #[test]
    fn types_without_exactly_one_type_argument_are_no_pipes() {
        let types = quote!((
            Pipe,
            PipeWriter,
            Pipe<u8, u16>,
            Pipe<'static, u8>,
            Pipe<4>,
            <Bank as Water>::Pipe<u8>,
            Pipes<u8>
        ));

        assert_eq!(found_in(types), [""; 0]);
    }
}
