package overlay

import (
	"fmt"
	"reflect"
)

// weightStep is how many bytes of a value count as a step of the template that makes it.
const weightStep = 4096

// maxNesting bounds how deep values nest, so that one which holds itself is not followed for ever.
const maxNesting = 100

// guard bounds what a function makes: the value and all that it leads to, counted as often as it is led to, for that is
// what it takes to print it. Functions that give numbers or truth make nothing.
func (x *execution) guard(f any) any {
	fn := reflect.ValueOf(f)
	typ := fn.Type()
	switch typ.Out(0).Kind() {
	case reflect.String, reflect.Slice, reflect.Map, reflect.Interface, reflect.Pointer, reflect.Struct, reflect.Array:
	default:
		return f
	}
	if typ.NumOut() == 1 {
		typ = withError(typ)
	}
	return reflect.MakeFunc(typ, func(args []reflect.Value) []reflect.Value {
		var out []reflect.Value
		if typ.IsVariadic() {
			out = fn.CallSlice(args)
		} else {
			out = fn.Call(args)
		}
		var err error
		if len(out) == 2 {
			err, _ = out[1].Interface().(error)
		}
		if err == nil {
			err = x.bear(out[0])
		}
		fault := reflect.Zero(errorType)
		if err != nil {
			fault = reflect.ValueOf(&err).Elem()
		}
		return []reflect.Value{out[0], fault}
	}).Interface()
}

var errorType = reflect.TypeFor[error]()

// withError is the type of a function that tells of an error, too.
func withError(typ reflect.Type) reflect.Type {
	in := make([]reflect.Type, typ.NumIn())
	for i := range in {
		in[i] = typ.In(i)
	}
	return reflect.FuncOf(in, []reflect.Type{typ.Out(0), errorType}, typ.IsVariadic())
}

// bear counts a value that was made, and refuses one that is too large.
func (x *execution) bear(v reflect.Value) error {
	left := MaxOutput
	if !weigh(v, &left, 0) {
		return bound(fmt.Sprintf("it makes a value of more than %d bytes, or one that holds itself", MaxOutput))
	}
	return x.spend((MaxOutput - left) / weightStep)
}

// weigh takes from left about the bytes that a value takes when it is printed; false if it has not so many.
func weigh(v reflect.Value, left *int, depth int) bool {
	if depth > maxNesting {
		return false
	}
	*left -= 8
	switch v.Kind() {
	case reflect.String:
		*left -= v.Len()
	case reflect.Interface:
		if !v.IsNil() {
			return weigh(v.Elem(), left, depth)
		}
	case reflect.Slice, reflect.Array:
		if k := v.Type().Elem().Kind(); k != reflect.Interface && k != reflect.String && k != reflect.Slice && k != reflect.Map {
			*left -= v.Len() * 8 // numbers, or nodes and devices, which are there anyway
			break
		}
		for i := 0; i < v.Len() && *left >= 0; i++ {
			if !weigh(v.Index(i), left, depth+1) {
				return false
			}
		}
	case reflect.Map:
		for i := v.MapRange(); *left >= 0 && i.Next(); {
			if !weigh(i.Key(), left, depth+1) || !weigh(i.Value(), left, depth+1) {
				return false
			}
		}
	}
	return *left >= 0
}
