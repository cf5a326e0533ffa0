package api

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/odata"
	"github.com/dunlin/dunlin/internal/resource"
)

// roots are where the versions of the model are (protocol §6.1); what is below /resin/ has no version, and is the newest.
var roots = []string{"/v6/", "/v7/", "/resin/"}

// root is the root that a path is below, "" if it is below none.
func root(path string) string {
	for _, root := range roots {
		if strings.HasPrefix(path, root) {
			return root
		}
	}
	return ""
}

// resources answers everything below a root (protocol §6.3).
func resources(model *resource.Model) call {
	return func(w http.ResponseWriter, r *http.Request, actor fleet.Actor) error {
		root, model := root(r.URL.Path), model
		if root == "/v6/" {
			model = model.V6()
		}
		q, err := odata.Parse(strings.TrimPrefix(r.URL.Path, root), r.URL.RawQuery)
		if err != nil {
			return err
		}
		switch r.Method {
		case http.MethodGet, http.MethodHead:
			rows, err := model.Read(r.Context(), actor, q)
			if err != nil {
				return err
			}
			send(w, r, http.StatusOK, rows)
			return nil
		case http.MethodPost:
			given, err := body(r)
			if err != nil {
				return err
			}
			if q.Action == "canAccess" {
				rows, err := model.CanAccess(r.Context(), actor, q, given)
				if err != nil {
					return err
				}
				send(w, r, http.StatusOK, rows)
				return nil
			}
			id, row, err := model.Create(r.Context(), actor, q, given)
			if err != nil {
				return err
			}
			if r.URL.Query().Get("returnResource") == "false" {
				row = fmt.Appendf(nil, `{"id":%d}`, id)
			}
			w.Header().Set("Location", root+q.Resource+"(@id)?@id="+strconv.FormatInt(id, 10))
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			w.WriteHeader(http.StatusCreated)
			_, _ = w.Write(row)
			return nil
		case http.MethodPatch:
			given, err := body(r)
			if err != nil {
				return err
			}
			return model.Update(r.Context(), actor, q, given)
		case http.MethodDelete:
			return model.Delete(r.Context(), actor, q)
		}
		w.Header().Set("Allow", "GET, HEAD, POST, PATCH, DELETE")
		say(w, http.StatusMethodNotAllowed, fault.Newf(fault.Invalid, "a resource has no method %s", r.Method).Message)
		return nil
	}
}
