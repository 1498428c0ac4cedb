// Package openapi describes Go types, and an API over HTTP that speaks them, as OpenAPI 3.1 does. Schemas are made by
// reflection out of what encoding/json does, so that the description cannot say anything else than the program.
package openapi

// Version is the version of OpenAPI that a Document is written in.
const Version = "3.1.1"

// Document is the description of an API.
type Document struct {
	OpenAPI    string                `json:"openapi"`
	Info       Info                  `json:"info"`
	Servers    []Server              `json:"servers,omitempty"`
	Security   []map[string][]string `json:"security,omitempty"`
	Tags       []Tag                 `json:"tags,omitempty"`
	Paths      map[string]PathItem   `json:"paths"`
	Components Components            `json:"components"`
}

// Info says what the API is.
type Info struct {
	Title       string  `json:"title"`
	Version     string  `json:"version"`
	Description string  `json:"description,omitempty"`
	License     License `json:"license,omitzero"`
}

// License names a license by its SPDX identifier.
type License struct {
	Name       string `json:"name"`
	Identifier string `json:"identifier,omitempty"`
}

// Server is where the API is found. Words in braces are Variables.
type Server struct {
	URL         string              `json:"url"`
	Description string              `json:"description,omitempty"`
	Variables   map[string]Variable `json:"variables,omitempty"`
}

// Variable is a part of a Server's URL.
type Variable struct {
	Default     string `json:"default"`
	Description string `json:"description,omitempty"`
}

// Tag is a chapter of the description.
type Tag struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
}

// PathItem is the operations of a path, by their method in lower case.
type PathItem map[string]*Operation

// Operation is what a method does at a path.
type Operation struct {
	ID          string                 `json:"operationId"`
	Summary     string                 `json:"summary"`
	Description string                 `json:"description,omitempty"`
	Tags        []string               `json:"tags,omitempty"`
	Roles       []string               `json:"x-roles,omitempty"` // who may ask
	Security    *[]map[string][]string `json:"security,omitempty"`
	Parameters  []Parameter            `json:"parameters,omitempty"`
	Body        *Body                  `json:"requestBody,omitempty"`
	Responses   map[string]Response    `json:"responses"` // by status; default is all others
}

// Where a Parameter stands.
const (
	InPath   = "path"
	InQuery  = "query"
	InHeader = "header"
)

// Parameter is a value in the path, the query or the header of a request, or a reference to one.
type Parameter struct {
	Ref         string  `json:"$ref,omitempty"`
	Name        string  `json:"name,omitempty"`
	In          string  `json:"in,omitempty"`
	Description string  `json:"description,omitempty"`
	Required    bool    `json:"required,omitempty"`
	Schema      *Schema `json:"schema,omitempty"`
}

// Body is what a request carries.
type Body struct {
	Required bool             `json:"required,omitempty"`
	Content  map[string]Media `json:"content"`
}

// Media is what a body of a media type holds. The zero Media is bytes that no schema is about.
type Media struct {
	Schema *Schema `json:"schema,omitempty"`
}

// Response is an answer, or a reference to one.
type Response struct {
	Ref         string            `json:"$ref,omitempty"`
	Description string            `json:"description,omitempty"`
	Headers     map[string]Header `json:"headers,omitempty"`
	Content     map[string]Media  `json:"content,omitempty"`
}

// Header is a header of an answer, or a reference to one.
type Header struct {
	Ref         string  `json:"$ref,omitempty"`
	Description string  `json:"description,omitempty"`
	Schema      *Schema `json:"schema,omitempty"`
}

// Components are what the rest of a document refers to.
type Components struct {
	Schemas         map[string]*Schema        `json:"schemas,omitempty"`
	Parameters      map[string]Parameter      `json:"parameters,omitempty"`
	Headers         map[string]Header         `json:"headers,omitempty"`
	Responses       map[string]Response       `json:"responses,omitempty"`
	SecuritySchemes map[string]SecurityScheme `json:"securitySchemes,omitempty"`
}

// SecurityScheme is a way to prove who asks.
type SecurityScheme struct {
	Type        string `json:"type"`
	Description string `json:"description,omitempty"`
}
