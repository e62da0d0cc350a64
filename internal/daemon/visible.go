package daemon

// visibility says who sees a mount.
type visibility int

const (
	// visibleOutside: the init process sees it, or that cannot be found out.
	visibleOutside visibility = iota
	// visibleInUnit: only processes in the mount namespace of connfs see it, which has the root
	// directory of the init process: a service manager made it for a unit, or unshare(1).
	visibleInUnit
	// visibleInContainer: the same, in a namespace with another root directory: a container that
	// shares the process ids of the machine.
	visibleInContainer
)

// initTable is the table of the mounts that the init process sees: that of the machine, or that
// of a container with process ids of its own.
const initTable = "/proc/1/mountinfo"

// visibleToInit says who sees the mounts of a device that this process has in its table.
func visibleToInit(own []mountEntry, device string) visibility {
	theirs, err := readTable(initTable)
	if err != nil {
		return visibleOutside
	}
	return compareTables(own, theirs, device)
}

func compareTables(own, theirs []mountEntry, device string) visibility {
	for _, e := range theirs {
		if e.device == device {
			return visibleOutside
		}
	}
	ownRoot, ok1 := rootOf(own)
	theirRoot, ok2 := rootOf(theirs)
	switch {
	case !ok1 || !ok2 || ownRoot.id == theirRoot.id:
		return visibleOutside // the same namespace: ids of mounts are unique
	case ownRoot.device == theirRoot.device && ownRoot.root == theirRoot.root:
		return visibleInUnit
	}
	return visibleInContainer
}

// rootOf returns the entry of the root directory.
func rootOf(table []mountEntry) (root mountEntry, ok bool) {
	for _, e := range table {
		if e.point == "/" {
			root, ok = e, true // the last one of a path is on top
		}
	}
	return root, ok
}

// shows fails if the mount surely serves nobody, and returns a warning if it serves only a few.
// unit says that a service manager started connfs.
func (m *mount) shows(unit bool) (warning string, err error) {
	const hint = "PrivateTmp=, ProtectSystem=, ProtectHome=, PrivateDevices=, ReadWritePaths= " +
		"and others like them make one: take them out of the unit"
	switch {
	case m.visible == visibleInUnit && unit:
		return "", mountError(m.path, hint, "nobody outside of this unit would see the mount: the "+
			"unit has a mount namespace of its own")
	case m.visible != visibleOutside:
		return "only processes in connfs's own mount namespace see the mount, and all others see " +
			"the directory underneath", nil
	}
	return "", nil
}
