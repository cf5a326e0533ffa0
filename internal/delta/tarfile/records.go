package tarfile

import (
	"path"
	"slices"
	"strconv"
)

// metasOf codes what goes before an entry's header.
func (h *Heads) metasOf(e *Entry, link string, mtime int64) {
	_, short := split(e.Name)
	long := 0
	if short == "" || len(link) > 100 || ascii(e.Name) != e.Name {
		long = 1
	}
	n := int(min(h.c.Number(&h.metaCount[long], uint64(len(e.Metas))), metasLimit+1))
	if n > metasLimit {
		h.fail()
		return
	}
	if h.c.Reading() {
		e.Metas = make([]Meta, n)
	}
	for i := range e.Metas {
		m := &e.Metas[i]
		kind := h.c.Byte(&h.metaKind, m.kind())
		m.Head[fieldType] = kind
		m.Body = h.metaBody(m.Body, kind, e, link)
		pred := initial()
		pred[fieldType] = kind
		if h.metaLike[kind] != nil {
			*pred = *h.metaLike[kind]
		}
		fieldSize.set(pred, int64(len(m.Body)))
		if got, _ := fieldMtime.number(&m.Head); h.c.Bool(&h.metaTime, got == mtime && mtime != 0) {
			fieldMtime.set(pred, mtime)
		}
		name := fieldName.text(&m.Head)
		dir, base := path.Split(path.Clean("/" + e.Name)[1:])
		for j, like := range []string{
			fieldName.text(pred),
			path.Join(dir, "PaxHeaders.0", base), // Go
			dir + "PaxHeaders/" + base,           // GNU tar
			"",
		} {
			if j == 3 {
				name = h.tail(name, h.last, 100)
				like = name
			}
			like = ascii(like)
			if len(like) > 100 {
				like = like[:100]
			}
			if j == 3 || h.c.Bool(&h.metaName[j], name == like) {
				fieldName.setText(pred, like)
				break
			}
		}
		fieldSum.set(pred, sum(pred))
		h.patch(pred, &m.Head, 1)
		if h.metaLike[kind] == nil {
			h.metaLike[kind] = new([block]byte)
		}
		*h.metaLike[kind] = m.Head
		if h.err != nil {
			return
		}
	}
}

// metaBody codes what is in a header before a header.
func (h *Heads) metaBody(body []byte, kind byte, e *Entry, link string) []byte {
	list, ok := records(body)
	var plain string
	switch kind {
	case 'L':
		plain = e.Name + "\x00"
	case 'K':
		plain = link + "\x00"
	}
	ok = kind == 'x' && ok && len(list) < 256
	if h.c.Bool(&h.metaText, kind == 'x' && !ok || kind != 'x' && string(body) != plain) {
		return []byte(h.tail(string(body), plain, metaLimit))
	}
	if kind != 'x' {
		return []byte(plain)
	}
	n := int(min(h.c.Number(&h.recordCount, uint64(len(list))), 256))
	if h.c.Reading() {
		list = make([]record, n)
	}
	body = body[:0:0]
	was := 0
	for i := range list {
		r := &list[i]
		k := slices.Index(h.keys, r.key)
		if k < 0 {
			k = len(h.keys)
		}
		k = int(h.c.Byte(&h.recordKey[was], byte(k)))
		switch {
		case k < len(h.keys):
			r.key = h.keys[k]
		case k == len(h.keys):
			r.key = h.tail(r.key, "", metaLimit)
			if len(h.keys) < 32 {
				h.keys, h.values = append(h.keys, r.key), append(h.values, "")
			}
		default:
			h.fail()
			return nil
		}
		k = min(k, 31)
		was = k + 1
		var like string
		switch {
		case r.key == "path":
			like = e.Name
		case r.key == "linkpath":
			like = link
		case r.key == "size":
			like = strconv.FormatInt(e.Size, 10)
		case k < len(h.values) && h.keys[k] == r.key:
			like = h.values[k]
		}
		if h.c.Bool(&h.recordValue[was], r.value == like) {
			r.value = like
		} else {
			r.value = h.tail(r.value, like, metaLimit)
		}
		if k < len(h.values) && h.keys[k] == r.key {
			h.values[k] = r.value
		}
		body = r.append(body)
		if len(body) > metaLimit || h.err != nil {
			h.fail()
			return nil
		}
	}
	return body
}
