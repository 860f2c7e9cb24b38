// The bindings ask for an object that carries the interface. `meshbus plugin build` puts the interface in by itself.
void __component_type_object_force_link_filter_plugin(void) {}
