package resource

import (
	"context"
	"fmt"

	"github.com/dunlin/dunlin/internal/fault"
	"github.com/dunlin/dunlin/internal/fleet"
	"github.com/dunlin/dunlin/internal/store"
)

// editImage is the rule of images before they are written. Where an image is kept is the server's to say.
func editImage(ctx context.Context, w *change) error {
	status, said := w.body["status"].(string)
	if said {
		if err := fleet.CheckStatus(fleet.Status(status)); err != nil {
			return err
		}
	}
	digest, hashed := w.body["content_hash"].(string)
	if hashed {
		if err := fleet.CheckDigest(digest); err != nil {
			return err
		}
	}
	if size, ok := w.body["image_size"].(int64); ok && size < 0 {
		return fault.New(fault.Invalid, "image_size is in bytes, and not negative")
	}
	if len(w.text("project_type")) > 255 {
		return fault.New(fault.Invalid, "a project_type has at most 255 bytes")
	}
	if w.verb == create {
		if !said {
			w.body["status"] = string(fleet.Running)
		}
		if _, ok := w.body["start_timestamp"]; !ok {
			w.body["start_timestamp"] = w.now
		}
		if w.Location == nil {
			return fault.New(fault.Unavailable, "this server takes no images")
		}
		w.columns["repository"], w.columns["location"] = w.Location()
		return w.pushed(fleet.Status(status), store.ImageUse{})
	}
	for _, id := range w.ids {
		i, err := store.ImageIn(ctx, w.tx, id)
		if err != nil {
			return err
		}
		if i.Ours {
			return fault.New(fault.Invalid, "an image that this server builds is the build's to write")
		}
		if i.Status != fleet.Running {
			// A client that got no answer says once more how it ended, before it says so of the release.
			if i.Settled || fleet.Status(status) != i.Status || hashed && digest != i.Digest {
				return fault.Newf(fault.Conflict, "the image of service %s cannot be changed: its status is %s", i.ServiceName, i.Status).
					WithHint("deploy another release")
			}
		}
		if err := w.pushed(fleet.Status(status), i); err != nil {
			return err
		}
	}
	return nil
}

// pushed is nil if an image that is to be a success is in the registry as far as its deployer says.
func (w *change) pushed(status fleet.Status, i store.ImageUse) error {
	if status != fleet.Success {
		return nil
	}
	if at, ok := w.body["push_timestamp"]; ok && at == nil || !ok && !i.Pushed {
		return fault.New(fault.Invalid, "an image can be a success only with its push_timestamp")
	}
	if digest, ok := w.body["content_hash"]; ok && digest == nil || !ok && i.Digest == "" {
		return fault.New(fault.Invalid, "an image can be a success only with its content_hash")
	}
	return nil
}

// joinRelease is the rule of what a release is made of: images of its own fleet, one of each service, that no build of
// this server's has made.
func joinRelease(ctx context.Context, w *change) error {
	if w.verb != create {
		return w.unsettled(ctx, w.ids)
	}
	image, _ := w.id("image")
	release, _ := w.id("is_part_of__release")
	i, err := store.ImageIn(ctx, w.tx, image)
	if err != nil {
		return err
	}
	r, err := store.ReleaseIn(ctx, w.tx, release)
	if err != nil {
		return err
	}
	switch {
	case !open(r):
		return w.notBuilding(r, "release_image")
	case i.Fleet != r.Fleet:
		return fault.Newf(fault.Invalid, "service %s is of another fleet than the release", i.ServiceName)
	case i.Ours:
		return fault.New(fault.Invalid, "the image is of a release that this server builds")
	case r.Status == fleet.Success && i.Status != fleet.Success:
		return fault.Newf(fault.Invalid, "the release is a success, and the image of service %s is %s", i.ServiceName, i.Status)
	}
	images, err := store.ReleaseImages(ctx, w.tx, release)
	if err != nil {
		return err
	}
	for _, other := range images {
		if other.Service == i.Service && other.ID != i.ID { // the same one twice is a conflict with words of its own
			return fault.Newf(fault.Conflict, "the release has an image of service %s already", i.ServiceName)
		}
	}
	return w.several(ctx, r.Fleet, len(images)+1)
}

// unsettled is nil if all these release_images are of releases that can still be changed.
func (w *change) unsettled(ctx context.Context, links []int64) error {
	for _, link := range links {
		r, err := store.ReleaseOf(ctx, w.tx, link)
		if err != nil {
			return err
		}
		if !open(r) {
			return w.notBuilding(r, w.res.name)
		}
	}
	return nil
}

// unsettled is a rule that wants the release of the rows to be one that can still be changed, and then checks them.
func unsettled(check rule) rule {
	return func(ctx context.Context, w *change) error {
		var links []int64
		if link, ok := w.id("release_image"); ok {
			links = append(links, link)
		}
		for _, id := range w.ids {
			link, err := store.LinkedRelease(ctx, w.tx, w.res.table, id)
			if err != nil {
				return fmt.Errorf("%s %d: %w", w.res.name, id, err)
			}
			links = append(links, link)
		}
		if err := w.unsettled(ctx, links); err != nil || w.verb == remove {
			return err
		}
		return check(ctx, w)
	}
}

// checkImageVariable is the rule of the variables that an image brings.
func checkImageVariable(_ context.Context, w *change) error {
	return fleet.CheckImageVariable(w.named("name", "variable"), w.text("value"))
}

// checkImageProfile is the rule of the profiles that a service is kept for.
func checkImageProfile(_ context.Context, w *change) error {
	return fleet.CheckProfile(w.named("profile_name", "profile"))
}
