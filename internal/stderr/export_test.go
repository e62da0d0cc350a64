package stderr

// NewWriter is New for another descriptor.
var NewWriter = newWriter

// MaxQueue is how many bytes of lines of the log may wait.
const MaxQueue = maxQueue
